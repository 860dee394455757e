"""Prepares the data of a config for long runs: images resized and cut into patches, so that no epoch decodes them.

With --to, writes them as HuggingFace's `datasets` read them instead, with the files of the images.

kovilt prepare kovilt_vqa_aihub data/prepared --val-rows 3000 --workers 16
kovilt prepare kovilt_vqa_aihub data/prepared_6pct --rows 80000
torchrun --nproc-per-node 2 -m kovilt prepare kovilt_vqa_aihub data/prepared
kovilt prepare data/mine data/prepared_mine
kovilt prepare data/mine data/mine_parquet --to parquet
kovilt prepare --verify data/prepared
kovilt train kovilt_vqa_prepared
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from kovilt.cli.arguments import CommandParser, at_least, parse_columns
from kovilt.errors import KoviltError
from kovilt.terminal import show

if TYPE_CHECKING:
    from mmengine.config import Config


def add_arguments(parser: CommandParser) -> None:
    parser.add_config('a config, which names the data and the image pipeline; or a folder with a data set', nargs='?')
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
    parser.add_argument(
        '--to',
        choices=('parquet', 'hf'),
        help='write Parquet files, or a folder for datasets.load_from_disk, in place of prepared data',
    )
    parser.add_columns()
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
    config = _load_config(args)
    if args.to:
        _write_data_set(config, args)
    else:
        _prepare(config, args)


def _load_config(args: argparse.Namespace) -> Config:
    from kovilt.engine.folder_config import load_data_config

    columns = parse_columns(args.columns, config=None if Path(args.config).is_dir() else args.config)
    return load_data_config(args.config, 'kovilt_vqa_custom', args.cfg_options, columns=columns)


def _write_data_set(config: Config, args: argparse.Namespace) -> None:
    from mmengine.registry import DefaultScope

    from kovilt.cli.progress import progress_bar
    from kovilt.datasets.data_set_files import write_data_set
    from kovilt.datasets.preparing import open_splits

    if args.no_images:
        raise KoviltError('--no-images: --to writes rows with their images; leave out one of the two')
    loaders = {name: config.get(f'{name}_dataloader') for name in ('train', 'val', 'test')}
    datasets = {name: loader.dataset.to_dict() for name, loader in loaders.items() if loader is not None}
    for dataset in datasets.values():
        dataset.pop('answers', None)  # no answer is too rare to be written
    if not datasets:
        raise KoviltError(f'{args.config}: it has no data loaders, so it names no data')
    with DefaultScope.overwrite_default_scope(config.default_scope), ExitStack() as bars:
        splits = open_splits(datasets, rows=args.rows, val_rows=args.val_rows, seed=_seed(config, args), images=False)
        written = write_data_set(
            args.out,
            {name: split.dataset for name, split in splits.items()},
            args.to,
            overwrite=args.overwrite,
            progress=lambda split: bars.enter_context(progress_bar(f'writing {split}', unit='rows')),
        )
    for name, split in written.items():
        missing = f'; left out: {len(split.missing):,} images, e.g. {split.missing[0]}' if split.missing else ''
        show(f'{args.out} {name}: {split.rows:,} rows on {split.images:,} images in {split.files:,} files{missing}')


def _seed(config: Config, args: argparse.Namespace) -> int:
    return config.get('randomness', {}).get('seed', 0) if args.seed is None else args.seed


def _prepare(config: Config, args: argparse.Namespace) -> None:
    from mmengine.registry import DefaultScope

    from kovilt.cli.progress import progress_bar
    from kovilt.datasets import prepare
    from kovilt.datasets.preparing_task import task_of_environment

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
            seed=_seed(config, args),
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
