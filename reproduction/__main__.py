"""The paper's tables: runs the trainings that are missing and writes the tables (docs/en/reproduction.md).

    python -m reproduction table2 table3 --jobs 2         # small models on Rooms
    python -m reproduction all --seeds 3 --jobs 12        # on one GPU
    python -m reproduction all --data aihub --scale base  # the paper's models on data/aihub_101 and data/aihub_261
    python -m reproduction all --no-run                   # the tables of what is finished

Tables: table1 (data), table2 (accuracy and time of METER and ViLT), table3 (a small part of the data, by epoch),
ablations. Each step is one of kovilt's verbs. Started again, finished steps are skipped and an interrupted one
resumes. WORK_DIR gets tables.md, results.json, curves.png and a CSV file of each table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, nearest, run_cli
from kovilt.recipes.commands import SHIPPED_ENCODER
from reproduction.scales import SCALES, TABLES, ReproductionScale

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = CommandParser(__doc__, prog='python -m reproduction')
    parser.add_argument('tables', nargs='+', metavar='TABLE', help=f'{", ".join(TABLES)} or all')
    parser.add_argument('--data', choices=('rooms', 'aihub'), default='rooms', help='(default: rooms, synthetic data)')
    scales = tuple(dict.fromkeys(scale for _, scale in SCALES))
    parser.add_argument('--scale', choices=scales, help='(default: small; for aihub base)')
    parser.add_argument('--seeds', type=at_least(1), default=3, metavar='N', help='trainings of each kind (default: 3)')
    parser.add_argument('--jobs', type=at_least(1), default=1, metavar='N', help='trainings at once (default: 1)')
    parser.add_argument('--encoder', metavar='FOLDER', help='a pre-trained model folder (default: as shipped)')
    parser.add_argument('--work-dir', type=Path, help='(default: work_dirs/reproduce, with _DATA_SCALE unless small)')
    parser.add_argument('--no-run', action='store_true', help='run nothing, write the tables of what is finished')
    return parser.parse_args()


def selected_tables(args: argparse.Namespace) -> list[str]:
    """The tables that the arguments ask for, in the paper's order.

    Raises:
        KoviltError: no such table, or one that the data do not allow.
    """
    for table in args.tables:
        if table not in (*TABLES, 'all'):
            raise KoviltError(f'{table}: no such table{nearest(table, TABLES)}; there are {", ".join(TABLES)} and all')
    if args.data == 'aihub' and 'ablations' in args.tables:
        raise KoviltError(
            'ablations: alignment is scored against boxes, which only Rooms has; use --data rooms, or train '
            'configs/ablations with kovilt train'
        )
    available = TABLES if args.data == 'rooms' else [table for table in TABLES if table != 'ablations']
    return [table for table in available if table in args.tables or 'all' in args.tables]


def introduction(args: argparse.Namespace, scale: ReproductionScale, results: Mapping[str, Any]) -> str:
    """The first lines of tables.md: what was run, and where."""
    machine = results['environment']
    where = 'a machine without a finished training'
    if machine:
        devices = ', '.join(machine['gpus']) or 'no GPU'
        packages = machine['packages']
        where = f'{devices}, {machine["cpus"]} CPU cores, torch {packages["torch"]}, Python {machine["python"]}'
    shipped = f'the shipped encoder ({SHIPPED_ENCODER})' if scale.is_small else 'an encoder that was pre-trained here'
    unit = 'steps of 64 questions' if scale.is_small else 'epochs'
    return (
        f'# Tables: {args.data}, scale {args.scale}, {args.seeds} seed(s)\n\n'
        f'`python -m reproduction {" ".join(args.tables)} --data {args.data} --scale {args.scale} --seeds '
        f'{args.seeds} --jobs {args.jobs}` on {where}. Table 2 trains for {scale.full:,} {unit}, table 3 for '
        f'{scale.subset_epochs} epochs of {scale.subset_questions:,} questions; pre-trained ViLT starts from '
        f'{args.encoder or shipped}.\n'
    )


def main(args: argparse.Namespace) -> None:
    args.scale = args.scale or ('base' if args.data == 'aihub' else 'small')
    tables = selected_tables(args)
    if (args.data, args.scale) not in SCALES:
        raise KoviltError(f'--data {args.data} has no --scale {args.scale}; use --scale base')
    os.chdir(ROOT)  # the benchmarks and the work folder are here
    if args.encoder and not (Path(args.encoder) / 'kovilt.json').is_file():
        raise KoviltError(f'--encoder {args.encoder}: no model folder; kovilt export writes one')
    default = 'reproduce' if (args.data, args.scale) == ('rooms', 'small') else f'reproduce_{args.data}_{args.scale}'
    work_dir = args.work_dir or Path('work_dirs', default)
    if args.no_run and not (work_dir / 'settings.json').is_file():
        raise KoviltError(f'{work_dir}: nothing was run there; leave out --no-run')

    from kovilt.files import write_json
    from kovilt.recipes.steps import finished_steps
    from reproduction.plan import plan_tables
    from reproduction.run import check_settings, check_user_data, run_reproduction

    scale = SCALES[args.data, args.scale]
    options: dict[str, Any] = {
        'scale': scale,
        'seeds': args.seeds,
        'work_dir': work_dir,
        'encoder': args.encoder or '',
    }
    plan = plan_tables(tables, **options)
    os.environ |= plan.environment()
    if args.data == 'aihub' and not args.no_run:
        check_user_data(plan)
    settings = {'data': args.data, 'scale': args.scale, 'encoder': plan.encoder, 'sizes': asdict(scale)}
    check_settings(work_dir, json.loads(json.dumps(settings)))  # as they are read from the file
    failure = None if args.no_run else run_reproduction(plan, args.jobs)

    from reproduction.results import collect_results, describe_data, write_tables

    if 'table1' in tables and not args.no_run and not failure and not (work_dir / 'table1.json').is_file():
        write_json(work_dir / 'table1.json', describe_data(plan))
    everything = plan_tables(TABLES if scale.images else TABLES[:3], **options)  # also tables of earlier calls
    results = collect_results(everything, finished_steps(list(everything.steps.values()), work_dir))
    results['settings'] |= settings
    files = write_tables(results, work_dir, introduction(args, scale, results))
    print('\n'.join(f'  {file}' for file in files))
    if failure:
        raise failure


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
