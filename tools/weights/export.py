#!/usr/bin/env python
"""Write a checkpoint of training as a model folder, which predict.py, the API and HuggingFace transformers open.

    python tools/weights/export.py work_dirs/vqa/epoch_10.pth models/kovilt-vqa
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))   # also without installation

from kovilt.errors import run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='checkpoint (.pth) of pre-training or fine-tuning')
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--config', help='config of the checkpoint (default: the one that it carries)')
    parser.add_argument('--tokenizer', help='folder or file of the tokenizer, when it is not where the config says')
    parser.add_argument(
        '--dtype', choices=('float32', 'float16'), default='float32', help='float16 takes half the space (float32)')
    parser.add_argument('--overwrite', action='store_true', help='replace an older model folder')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.environment import check_environment
    check_environment()
    from kovilt.weights import export_checkpoint

    out = export_checkpoint(
        args.checkpoint, args.out, config=args.config, tokenizer=args.tokenizer, dtype=args.dtype,
        overwrite=args.overwrite)
    print(f'{out}: {sum(file.stat().st_size for file in out.iterdir()) / 1e6:,.1f} MB')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
