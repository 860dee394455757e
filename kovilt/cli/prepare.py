"""Prepares the data of a config for long runs: images resized and cut into patches, so that no epoch decodes them.

kovilt prepare kovilt_vqa_aihub data/prepared --val-rows 3000 --workers 16
kovilt prepare kovilt_vqa_aihub data/prepared_6pct --rows 80000
torchrun --nproc-per-node 2 -m kovilt prepare kovilt_vqa_aihub data/prepared
kovilt prepare --verify data/prepared
kovilt train kovilt_vqa_prepared
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_config('a config, which names the data and the image pipeline', nargs='?')
    parser.add_argument('out', nargs='?', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument(
        '--rows', type=at_least(1), metavar='N', help='number of training rows, sampled by the seed (default: all)'
    )
    parser.add_argument(
        '--val-rows',
        type=at_least(0),
        default=0,
        metavar='N',
        help="take about N training rows, by whole images, as split 'val'; the data set's own 'val' becomes 'test'",
    )
    parser.add_argument('--seed', type=int, metavar='S', help="seed of sampling (default: the config's)")
    parser.add_argument('--no-images', action='store_true', help='rows only; images stay where they are')
    parser.add_workers('read images')
    parser.add_argument('--overwrite', action='store_true', help='replace the prepared data in OUT')
    parser.add_argument('--verify', type=Path, metavar='OUT', help='compare all files in OUT with their checksums')
    parser.add_cfg_options('train_dataloader.dataset.reader.split=trainval')


def run(args: argparse.Namespace) -> None:
    if (args.verify is None) == (args.out is None):
        raise KoviltError('give CONFIG and OUT, or --verify OUT')
    if args.verify is not None:
        from kovilt.datasets import verify_prepared

        files, size = verify_prepared(args.verify)
        show(f'{args.verify}: {files} files, {size / 1e9:,.2f} GB, as they were prepared')
        return
    from mmengine.registry import DefaultScope

    from kovilt.cli.progress import progress_bar
    from kovilt.datasets import prepare
    from kovilt.datasets.preparing_task import task_of_environment
    from kovilt.engine.config import load_config

    config = load_config(args.config, args.cfg_options)
    loaders = {name: config.get(f'{name}_dataloader') for name in ('train', 'val')}
    if loaders['train'] is None:
        raise KoviltError(f'{args.config}: it has no train_dataloader, so it names no data to prepare')
    with DefaultScope.overwrite_default_scope(config.default_scope), ExitStack() as bars:
        task = task_of_environment(os.environ)
        preparation = prepare(
            args.out,
            {name: loader.dataset.to_dict() for name, loader in loaders.items() if loader is not None},
            rows=args.rows,
            val_rows=args.val_rows,
            seed=config.get('randomness', {}).get('seed', 0) if args.seed is None else args.seed,
            images=not args.no_images,
            workers=args.workers,
            task=task,
            overwrite=args.overwrite,
            log=lambda message: show(message, flush=True),
            progress=lambda split: bars.enter_context(progress_bar(f'preparing {split}')),
        )
    if preparation.was_complete:
        show(f'{args.out}: already there')
        return
    if preparation.summary is None:
        show(
            f'{args.out}: {task} has written its shards; {preparation.missing:,} of other tasks are missing. The task '
            'that ends last completes the data; if none is running, repeat the command'
        )
        return
    for name, split in preparation.summary['splits'].items():
        broken = f', {split["broken"]:,} broken: {args.out / name}/broken.jsonl' if split['broken'] else ''
        show(f'{args.out} {name}: {split["rows"]:,} rows on {split["images"]:,} images{broken}')
