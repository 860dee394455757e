"""Trains a Korean WordPiece tokenizer on the training texts of data sets, or on plain text.

kovilt tokenizer data/rooms/tokenizer --vocab-size 1000 \
    --captions data/rooms/captions --questions data/rooms/vqa
kovilt tokenizer data/tokenizer --vocab-size 8000 --data data/kvqa --data data/custom
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from kovilt.cli.arguments import CommandParser, parse_columns
from kovilt.errors import KoviltError
from kovilt.files import read_lines
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--vocab-size', type=int, required=True, metavar='N', help='maximum number of tokens')
    parser.add_argument(
        '--min-frequency', type=int, default=2, metavar='K', help='tokens that occur together less often do not merge'
    )
    parser.add_argument('--captions', action='append', default=[], metavar='ROOT', help='data_root of AI-Hub 261')
    parser.add_argument('--questions', action='append', default=[], metavar='ROOT', help='data_root of AI-Hub 101')
    parser.add_argument(
        '--data', action='append', default=[], metavar='FOLDER', help='of any data set that kovilt verify recognizes'
    )
    parser.add_columns()
    parser.add_argument('--text', action='append', default=[], metavar='FILE', help='UTF-8 text, one sentence a line')


def read_texts(args: argparse.Namespace) -> Iterator[str]:
    """The training texts; the images that they are about may be absent."""
    from kovilt.datasets import AIHubCOCOKoreanReader, AIHubLivingReader, normalize_korean
    from kovilt.verification import sources_of_folder

    for root in args.captions:
        yield from AIHubCOCOKoreanReader(data_root=root, split='train').read_rows().texts()
    for root in args.questions:
        yield from AIHubLivingReader(data_root=root, split='train').read_rows().texts()
    for folder in args.data:
        for source in sources_of_folder(folder, None, columns=parse_columns(args.columns)):
            if source.training:
                yield from source.reader(**source.options).read_rows().texts()
    for file in args.text:
        yield from filter(None, map(normalize_korean, read_lines(file, 'table')))


def run(args: argparse.Namespace) -> None:
    if not (args.captions or args.questions or args.data or args.text):
        raise KoviltError('nothing to train on: give --captions, --questions, --data or --text')
    if args.columns and not args.data:
        raise KoviltError('--columns names the columns of a table in --data FOLDER; give that, or leave it out')
    from kovilt.datasets import train_tokenizer

    size = train_tokenizer(read_texts(args), args.out, vocab_size=args.vocab_size, min_frequency=args.min_frequency)
    show(f'{args.out}: {size:,} tokens')
