"""How fast a config's training data comes: batches are made in one process, epoch after epoch.

python benchmarks/loading.py configs/kovilt_vqa_aihub.py
python benchmarks/loading.py configs/kovilt_vqa_prepared.py
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without installation

from kovilt.errors import run_cli  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config whose data is there')
    parser.add_argument('--seconds', type=float, default=20, help='of the processor, for batches (default: 20)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', action='extend', help='override its values'
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    from mmengine.registry import DefaultScope

    from kovilt.engine.config import load_config
    from kovilt.engine.runner import KoviltRunner

    config = load_config(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        start = time.process_time()
        loader = KoviltRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0}, seed=0)
        print(f'{len(loader.dataset):,} rows opened in {time.process_time() - start:.1f} s of the processor')
    texts = images = patches = 0
    start = time.process_time()
    for parts in itertools.chain.from_iterable(itertools.repeat(loader)):
        for batch in parts:
            texts += len(batch['image_index'])
            images += len(batch['grids'])
            patches += batch['patches'].nbytes
        seconds = time.process_time() - start
        if seconds > args.seconds:
            break
    size = patches / 1e9
    print(f'{texts:,} texts, {images:,} images, {size:.2f} GB of patches in {seconds:.1f} s of the processor')
    print(f'{texts / seconds:,.0f} texts/s, {images / seconds:,.0f} images/s, {size / seconds:.2f} GB/s')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments)))
