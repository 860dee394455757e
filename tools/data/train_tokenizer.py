"""Trains a Korean WordPiece tokenizer on the training texts of data sets in their own layouts, or on plain text.

python tools/data/train_tokenizer.py data/rooms/tokenizer --vocab-size 1000 \
    --captions data/rooms/captions --questions data/rooms/vqa
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f'error: {message}\n')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--vocab-size', type=int, required=True, metavar='N', help='pieces at most')
    parser.add_argument('--min-frequency', type=int, default=2, metavar='K', help='pairs seen less are not joined')
    parser.add_argument('--captions', action='append', default=[], metavar='ROOT', help='data_root of AI-Hub 261')
    parser.add_argument('--questions', action='append', default=[], metavar='ROOT', help='data_root of AI-Hub 101')
    parser.add_argument('--text', action='append', default=[], metavar='FILE', help='UTF-8 text, one sentence a line')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args(argv)
    if not (args.captions or args.questions or args.text):
        parser.error('nothing to train on: give --captions, --questions or --text')
    return args


def corpus(args: argparse.Namespace) -> Iterator[str]:
    """The training texts; the images they speak about need not be there."""
    from kovilt.datasets import AIHubCOCOKorean, AIHubLivingVQA, normalize_korean
    from kovilt.errors import KoviltError

    texts_only = dict(image_pipeline=[], text_pipeline=[], max_broken_share=1.0, test_mode=True)
    for root in args.captions:
        yield from AIHubCOCOKorean(data_root=root, **texts_only).texts()
    for root in args.questions:
        yield from AIHubLivingVQA(data_root=root, **texts_only).texts()
    for file in args.text:
        try:
            with open(file, encoding='utf-8-sig') as lines:
                yield from filter(None, map(normalize_korean, lines))
        except OSError as error:
            raise KoviltError(f'{file}: cannot be read ({error.strerror})') from error
        except UnicodeDecodeError as error:
            raise KoviltError(f'{file}: not UTF-8 text ({error.reason}); save it as UTF-8') from error


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    sys.path.insert(0, str(ROOT))
    from kovilt.errors import run_cli

    def run() -> None:
        from kovilt.datasets import train_tokenizer

        size = train_tokenizer(corpus(args), args.out, vocab_size=args.vocab_size, min_frequency=args.min_frequency)
        print(f'{args.out}: {size:,} pieces')

    return run_cli(run, debug=args.debug)


if __name__ == '__main__':
    sys.exit(main())
