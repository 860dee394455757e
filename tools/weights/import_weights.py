#!/usr/bin/env python
"""Write other people's weights - a ViLT, or a ViT as the start of one - as a model folder of kovilt.

python tools/weights/import_weights.py vilt-b32-mlm models/vilt --tokenizer bert-kor-base --bert bert-kor-base
python tools/train.py configs/kovilt_pretrain_coco.py --load-from models/vilt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.errors import run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'source', help='HuggingFace folder, or file: ViLT (HuggingFace, original code), ViT (HuggingFace, timm)'
    )
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--tokenizer', help='Korean tokenizer; folder or file (that of --bert, else of the source)')
    parser.add_argument('--source-tokenizer', help='tokenizer that the source was trained with, if it carries none')
    parser.add_argument('--bert', help='folder of a Korean BERT that gives word embeddings')
    parser.add_argument('--answers', help='JSON of the answers, in the order of an answer head that does not name them')
    parser.add_argument('--image-size', type=int, help="side in pixels for which positions are made (the source's)")
    parser.add_argument('--max-text-len', type=int, help="longest text in tokens (the source's)")
    parser.add_argument('--num-heads', type=int, help='heads of attention, if the source does not say (width / 64)')
    parser.add_argument('--force', action='store_true', help='also with less than 95 %% of the encoder')
    parser.add_argument('--overwrite', action='store_true', help='replace an older model folder')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.weights import import_weights

    arguments = {name: value for name, value in vars(args).items() if name != 'debug'}
    print(import_weights(**arguments))
    print(f'written to {args.out}')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
