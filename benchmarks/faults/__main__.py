"""Hurts small trainings in every way of the catalogue and counts those that survive.

    python -m benchmarks.faults                          all rows, as `make faults` does, which also writes the table
    python -m benchmarks.faults F01 F07 --tries 3        some rows
    python -m benchmarks.faults --fast                   what `make test` runs

A try survives when the run ends by itself or after the same command with --resume, is exactly what a run without the
fault is, loses only what came after the last complete checkpoint, and reports truthfully. It is silent when it ends as
if all were well and its result is wrong. Without rows, the suite first removes safeguards of kovilt and must find
silent failures. The exit code is 1 unless every try survives.
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
    parser.add_argument('--docs', action='store_true', help='write the table into docs/{en,ko}/reliability.md')
    parser.add_argument('--keep', metavar='FOLDER', help='work there, and keep the files of tries that do not survive')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    os.environ |= {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1', 'CUDA_VISIBLE_DEVICES': '', 'KOVILT_NO_REPORT': '1'}
    os.environ.setdefault('PYTHONPATH', str(Path(__file__).resolve().parents[2]))
    from benchmarks.faults.catalogue import ROWS

    if unknown := [name for name in args.rows if name not in ROWS]:
        raise KoviltError(f'{unknown[0]}: no such row{nearest(unknown[0], ROWS)}; there are {", ".join(ROWS)}')
    if args.docs and (args.rows or args.tries or args.fast):
        raise KoviltError('--docs writes the table of all rows; leave out rows, --tries and --fast')
    rows = [(row, args.tries or (row.fast if args.fast else row.tries)) for row in ROWS.values()]
    rows = [(row, tries) for row, tries in rows if (row.name in args.rows if args.rows else tries)]
    if args.keep:
        Path(args.keep).mkdir(parents=True, exist_ok=True)
        return try_rows(rows, Path(tempfile.mkdtemp(prefix='faults-', dir=args.keep)), args)
    with tempfile.TemporaryDirectory(prefix='kovilt-faults-') as folder:
        return try_rows(rows, Path(folder), args)


def find_blind_rows(folder: Path, golden: dict, jobs: int) -> list[str]:
    """Remove safeguards, one after the other, and return those that no try has missed."""
    from benchmarks.faults.catalogue import ROWS
    from benchmarks.faults.plants import PLANTS
    from benchmarks.faults.suite import run_rows

    blind = []
    for name, plant in PLANTS.items():
        wanted = [(ROWS[plant.row], plant.tries)]
        for result in run_rows(wanted, folder, golden, jobs=jobs, remove=plant.remove):
            found = f'{result.silent} of {result.tried} tries are silent, as they must be'
            if not result.silent:
                blind.append(name)
                found = 'NO try is silent, so the suite is blind: ' + '; '.join(result.reasons)
            print(f'without {name}: {result.row.name}: {found}', flush=True)
    return blind


def try_rows(rows: list, folder: Path, args: argparse.Namespace) -> int:
    from benchmarks.faults import report
    from benchmarks.faults.checks import digest_folder
    from benchmarks.faults.rig import prepare
    from benchmarks.faults.suite import run_rows

    start = time.monotonic()
    data, golden = prepare(folder)
    before = digest_folder(data)
    blind = [] if args.rows else find_blind_rows(folder, golden, args.jobs)
    results = []
    for result in run_rows(rows, folder, golden, jobs=args.jobs, keep=bool(args.keep)):
        results.append(result)
        print(report.line(result), flush=True)
    changed = digest_folder(data) != before
    minutes, used = (time.monotonic() - start) / 60, os.times()
    processor_minutes = sum(used[:4]) / 60  # of this process and of all that it has waited for
    print(report.summary(results, minutes, processor_minutes, changed=changed))
    if args.docs:
        report.write_docs(results, minutes, processor_minutes)
    return int(changed or bool(blind) or any(result.survived < result.tried for result in results))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
