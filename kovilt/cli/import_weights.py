"""Import public weights, of a ViLT or of a ViT as the start of one, as a model folder of kovilt.

kovilt import vilt-b32-mlm models/vilt --tokenizer bert-kor-base --bert bert-kor-base
kovilt train kovilt_pretrain_coco --load-from models/vilt
"""

from __future__ import annotations

import argparse

from kovilt.cli.arguments import CommandParser
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'source',
        help='HuggingFace folder, its OWNER/NAME on the hub, or file: ViLT (HuggingFace, original code), ViT '
        '(HuggingFace, timm)',
    )
    parser.add_argument('out', help='folder to make')
    parser.add_argument(
        '--tokenizer', help='Korean tokenizer, folder or file (default: that of --bert, else of the source)'
    )
    parser.add_argument(
        '--source-tokenizer', help='tokenizer that the source was trained with, if its folder holds none'
    )
    parser.add_argument('--bert', help='Korean BERT that gives word embeddings: folder or name on the hub')
    parser.add_argument(
        '--answers', help='JSON file of the answers in the order of the answer head, if the source does not name them'
    )
    parser.add_argument(
        '--image-size', type=int, help="side of images in pixels for the position embeddings (default: the source's)"
    )
    parser.add_argument('--max-text-len', type=int, help="longest text in tokens (default: the source's)")
    parser.add_argument(
        '--num-heads', type=int, help='attention heads, if the source does not state them (default: hidden size / 64)'
    )
    parser.add_argument('--force', action='store_true', help='import also less than 95 %% of the encoder')
    parser.add_argument('--overwrite', action='store_true', help='replace an older model folder')


def run(args: argparse.Namespace) -> None:
    from kovilt.weights import import_weights

    arguments = {name: value for name, value in vars(args).items() if name != 'debug'}
    for line in str(import_weights(**arguments)).split('\n'):
        show(line)
    show(f'written to {args.out}')
