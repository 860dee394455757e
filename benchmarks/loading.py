"""How fast the training batches of a config are made, in one process, epoch after epoch.

    python -m benchmarks.loading configs/kovilt_vqa_aihub.py
    python -m benchmarks.loading configs/kovilt_vqa_prepared.py

Rates are per second of processor time: what one core delivers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

from benchmarks.timing import processor_clock
from kovilt.cli.arguments import CommandParser
from kovilt.errors import run_cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='a training config whose data is there')
    parser.add_argument(
        '--seconds', type=float, default=20, metavar='S', help='processor time to make batches for (20)'
    )
    parser.add_cfg_options()
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    from mmengine.registry import DefaultScope

    from kovilt.engine.config import load_config
    from kovilt.engine.runner import KoviltRunner

    config = load_config(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        start = processor_clock()
        loader = KoviltRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0}, seed=0)
        dataset: Any = loader.dataset
        print(f'{len(dataset):,} rows opened in {processor_clock() - start:.1f} s of the processor')
    texts = images = patch_bytes = 0
    start = processor_clock()
    for micro_batches in itertools.chain.from_iterable(itertools.repeat(loader)):
        for batch in micro_batches:
            texts += len(batch['image_index'])
            images += len(batch['grids'])
            patch_bytes += batch['patches'].nbytes
        seconds = processor_clock() - start
        if seconds > args.seconds:
            break
    size = patch_bytes / 1e9
    print(f'{texts:,} texts, {images:,} images, {size:.2f} GB of patches in {seconds:.1f} s of the processor')
    print(f'{texts / seconds:,.0f} texts/s, {images / seconds:,.0f} images/s, {size / seconds:.2f} GB/s')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
