"""Makes of a config's data a compact form for long runs, of which an epoch decodes no image.

python tools/data/prepare.py configs/kovilt_vqa_aihub.py data/prepared --dev 3000 --workers 16
python tools/data/prepare.py configs/kovilt_vqa_aihub.py data/prepared_6pct --rows 80000
python tools/data/prepare.py --verify data/prepared
python tools/train.py configs/kovilt_vqa_prepared.py
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', metavar='CONFIG', help='names the data and what is done with images')
    parser.add_argument('out', nargs='?', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--rows', type=int, metavar='N', help='so many training rows, drawn by seed (default: all)')
    parser.add_argument(
        '--dev', type=int, default=0, metavar='N', help="take about N training rows, by whole images, as split 'dev'"
    )
    parser.add_argument('--seed', type=int, metavar='S', help="of what is drawn (default: the config's)")
    parser.add_argument('--no-images', action='store_true', help='rows only; images stay where they lie')
    parser.add_argument('--workers', type=int, metavar='W', help='processes that read images (default: one per CPU)')
    parser.add_argument('--overwrite', action='store_true', help='lose the prepared data that OUT holds')
    parser.add_argument('--verify', type=Path, metavar='OUT', help='read all of OUT and compare it with its checksums')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', action='extend', help='override values of CONFIG'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args(argv)
    if (args.verify is None) == (args.out is None):
        parser.error('give CONFIG and OUT, or --verify OUT')
    if args.workers is None:
        args.workers = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    for option, least in (('rows', 1), ('dev', 0), ('workers', 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            parser.error(f'--{option} must be at least {least}, not {value}')
    return args


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    if args.verify is not None:
        from kovilt.datasets import verify_prepared

        files, size = verify_prepared(args.verify)
        print(f'{args.verify}: {files} files, {size / 1e9:,.2f} GB, as they were prepared')
        return
    from mmengine.registry import DefaultScope

    from kovilt.cli.progress import progress_bar
    from kovilt.datasets import prepare
    from kovilt.engine.config import load_config

    config = load_config(args.config, args.cfg_options)
    loaders = {name: config.get(f'{name}_dataloader') for name in ('train', 'val')}
    if loaders['train'] is None:
        raise KoviltError(f'{args.config}: it has no train_dataloader, so it names no data to prepare')
    with DefaultScope.overwrite_default_scope(config.default_scope), ExitStack() as bars:
        summary = prepare(
            args.out,
            {name: loader.dataset.to_dict() for name, loader in loaders.items() if loader is not None},
            rows=args.rows,
            dev=args.dev,
            seed=config.get('randomness', {}).get('seed', 0) if args.seed is None else args.seed,
            images=not args.no_images,
            workers=args.workers,
            overwrite=args.overwrite,
            say=lambda message: print(message, flush=True),
            progress=lambda split: bars.enter_context(progress_bar(f'preparing {split}')),
        )
    if summary is None:
        print(f'{args.out}: already there')
        return
    for name, split in summary['splits'].items():
        broken = f', {split["broken"]:,} broken: {args.out / name}/broken.jsonl' if split['broken'] else ''
        print(f'{args.out} {name}: {split["rows"]:,} rows on {split["images"]:,} images{broken}')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
