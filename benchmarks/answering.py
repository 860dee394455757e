"""Questions a second of `kovilt predict --input`, beside what the model alone reaches on prepared batches; wall time.

    python -m benchmarks.answering work_dirs/quickstart/model data/custom/val.jsonl

The model alone answers batches that lie in memory; `predict` also reads the images and writes the answers, for which it
has worker processes. Both take the same rows, in turn. A share near 100 % means that the model never waits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import markdown_table
from benchmarks.timing import describe_machine, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('model', help='model folder')
    parser.add_argument('input', type=Path, help='JSONL or CSV table of questions')
    parser.add_argument('--device', default='cpu', help='(default: cpu)')
    parser.add_argument('--batch-size', type=at_least(1), default=32, metavar='B', help='questions of a batch (32)')
    parser.add_argument('--rounds', type=at_least(1), default=5, metavar='N', help='timings of each (5)')
    parser.add_workers('read images')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.apis import VQAInferencer
    from kovilt.apis.answer_file import write_answers
    from kovilt.apis.answer_rows import make_windows, prepare_windows
    from kovilt.apis.question_rows import read_question_rows

    inferencer = VQAInferencer(args.model, device=args.device, batch_size=args.batch_size)
    rows = read_question_rows(args.input)
    windows = list(make_windows(rows, args.batch_size))
    batches = [one.batch for window in prepare_windows(inferencer, windows, workers=0) for one in window.batches]

    def answer_prepared() -> None:
        with torch.inference_mode():
            for batch in batches:
                inferencer.model(batch, mode='predict')

    def predict() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_answers(inferencer, rows, Path(folder, 'answers.jsonl'), workers=args.workers)

    variants: dict[str, Callable[[], None]] = {'the model alone': answer_prepared, 'kovilt predict --input': predict}
    seconds = time_in_turn(variants, rounds=args.rounds, clock=wall_clock)
    print(f'{describe_machine(args.device)}; {len(rows):,} questions, {args.workers} workers\n')
    alone = seconds['the model alone']
    table = [
        [
            name,
            f'{len(rows) / statistics.median(times):,.1f}',
            f'{100 * statistics.median(a / b for a, b in zip(alone, times, strict=True)):.0f} %',
        ]
        for name, times in seconds.items()
    ]
    print(markdown_table(['', 'questions/s', 'of the model alone'], table))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
