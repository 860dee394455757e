"""Hurts small trainings in every way of the catalogue and counts those that survive.

    python -m benchmarks.faults                          all rows, as `make faults` does, which also writes the table
    python -m benchmarks.faults F01 F07 --tries 3        some rows
    python -m benchmarks.faults --fast                   what `make test` runs

A try survives when the run ends by itself or after the same command with --resume, is exactly what a run without the
fault is, loses at most one save interval, and reports truthfully. It is silent when it ends as if all were well and its
result is wrong. The exit code is 1 unless every try survives.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, nearest, run_cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__, prog='python -m benchmarks.faults')
    parser.add_argument('rows', nargs='*', metavar='ROW', help='rows to try, such as F01 (default: all)')
    parser.add_argument('--tries', type=at_least(1), metavar='N', help='tries of each row (default: its own number)')
    parser.add_argument('--jobs', type=at_least(1), default=2, metavar='N', help='tries at a time (2)')
    parser.add_argument('--fast', action='store_true', help='the fast subset: few tries of the rows that take seconds')
    parser.add_argument('--plant', metavar='FAULT', help='remove a safeguard, so that rows must find silent failures')
    parser.add_argument('--docs', action='store_true', help='write the table into docs/{en,ko}/reliability.md')
    parser.add_argument('--keep', metavar='FOLDER', help='work there, and keep the files of tries that do not survive')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    os.environ |= {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1', 'CUDA_VISIBLE_DEVICES': ''}
    os.environ.setdefault('PYTHONPATH', str(Path(__file__).resolve().parents[2]))
    from benchmarks.faults.catalogue import ROWS
    from benchmarks.faults.plants import PLANTS

    if unknown := [name for name in args.rows if name not in ROWS]:
        raise KoviltError(f'{unknown[0]}: no such row{nearest(unknown[0], ROWS)}; there are {", ".join(ROWS)}')
    if args.plant and args.plant not in PLANTS:
        raise KoviltError(f'--plant {args.plant}: no such fault; there are {", ".join(PLANTS)}')
    if args.docs and (args.rows or args.tries or args.fast or args.plant):
        raise KoviltError('--docs writes the table of all rows; leave out rows, --tries, --fast and --plant')
    rows = [(row, args.tries or (row.fast if args.fast else row.tries)) for row in ROWS.values()]
    rows = [(row, tries) for row, tries in rows if (row.name in args.rows if args.rows else tries)]
    if args.keep:
        Path(args.keep).mkdir(parents=True, exist_ok=True)
        return try_rows(rows, Path(tempfile.mkdtemp(prefix='faults-', dir=args.keep)), args)
    with tempfile.TemporaryDirectory(prefix='kovilt-faults-') as folder:
        return try_rows(rows, Path(folder), args)


def try_rows(rows: list, folder: Path, args: argparse.Namespace) -> int:
    from benchmarks.faults import report
    from benchmarks.faults.checks import digest_folder
    from benchmarks.faults.plants import PLANTS
    from benchmarks.faults.rig import prepare
    from benchmarks.faults.suite import run_rows

    start = time.monotonic()
    data, golden = prepare(folder)
    before = digest_folder(data)
    if args.plant:
        PLANTS[args.plant]()
    results = []
    for result in run_rows(rows, folder, golden, jobs=args.jobs, keep=bool(args.keep)):
        results.append(result)
        print(report.line(result), flush=True)
    changed = digest_folder(data) != before
    minutes = (time.monotonic() - start) / 60
    print(report.summary(results, minutes, changed=changed))
    if args.docs:
        report.write_docs(results, minutes)
    return int(changed or any(result.survived < result.tried for result in results))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
