"""Compare two models by their predictions on the same questions.

    kovilt test CONFIG CHECKPOINT_A --out A.jsonl
    kovilt test CONFIG CHECKPOINT_B --out B.jsonl
    kovilt compare A.jsonl B.jsonl

Prints the accuracies of both, as a whole and by answer type, the difference B - A with its 95 % interval (paired
bootstrap of images) and the p of McNemar's exact test. docs/en/evaluation.md explains how they are computed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('a', metavar='A.jsonl', help='predictions of one model')
    parser.add_argument('b', metavar='B.jsonl', help='predictions of the other')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison as JSON too')


def format_comparison(found: dict[str, Any]) -> str:
    """The comparison as text for a terminal."""
    from kovilt.evaluation.table import format_table

    parts = [*found['types'].items(), ('all', found)]
    rows = [
        [
            name,
            f'{part["questions"]:,}',
            *(f'{accuracy:.2f}' for accuracy in part['accuracy']),
            f'{part["difference"]:+.2f}',
            '{:+.2f} to {:+.2f}'.format(*part['difference_interval']),
        ]
        for name, part in parts
    ]
    one, other = found['tolerant_accuracy']
    return '\n'.join(
        [
            'Accuracy in percent',
            format_table(['answer type', 'questions', 'A', 'B', 'B - A', '95 % interval'], rows),
            f'tolerant accuracy: A {one:.2f}, B {other:.2f}',
            f'better answered by A: {found["only_a"]:,} questions, by B: {found["only_b"]:,}; '
            f'McNemar p = {found["mcnemar_p"]:.3g}',
        ]
    )


def run(args: argparse.Namespace) -> None:
    from kovilt.evaluation.comparison import compare_predictions, read_predictions
    from kovilt.files import write_json

    found = compare_predictions(read_predictions(args.a), read_predictions(args.b), names=(args.a, args.b))
    if args.json:
        try:
            write_json(args.json, {'a': args.a, 'b': args.b, **found})
        except OSError as error:
            raise KoviltError(f'--json {args.json}: cannot be written ({error.strerror})') from error
    show(f'A: {args.a}')
    show(f'B: {args.b}')
    print(f'\n{format_comparison(found)}')
