"""What a teacher's scores bring: a small ViLT trained on them and the labels, against one trained on the labels alone.

    python -m benchmarks.distillation data/rooms --out work_dirs/distillation
    python -m benchmarks.distillation data/rooms --out work_dirs/distillation --weight 0.9 --temperature 4

ROOMS is a folder that `kovilt rooms` has drawn; the packaged model `rooms`, the teacher, was trained on `kovilt rooms
data/rooms --images 40000 --val-images 500`. The teacher scores the training questions once. Then the student of
configs/rooms/vqa_distill.py is trained twice for each seed: with both, and on the labels alone. The two start from the
same weights, see the same questions in the same order and take as many steps. Both answer the validation questions;
their difference has a 95 % interval (paired bootstrap of images). The last row pools the seeds.

Repeated with the same --out, the command goes on where it was; runs that are complete are not repeated. Other --batch
and --more than those of these runs are refused.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import markdown_table
from benchmarks.timing import run_kovilt
from benchmarks.training_runs import check_settings, train_and_test
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.cli.rooms import share
from kovilt.errors import KoviltError, run_cli
from kovilt.files import write_json
from kovilt.recipes import commands

CONFIG, TEACHER = 'rooms/vqa_distill', 'rooms'
_HEADER = ['seed', 'questions', 'labels', 'labels and teacher', 'difference', '95 % interval']


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument('rooms', type=Path, metavar='ROOMS', help='folder written by `kovilt rooms`')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='of the runs and the results')
    parser.add_argument('--seeds', type=at_least(0), nargs='+', default=[0, 1, 2], metavar='S', help='(0 1 2)')
    parser.add_argument(
        '--questions', type=positive, default=20_000, metavar='N', help='training questions, the same for all (20,000)'
    )
    parser.add_argument('--steps', type=positive, default=1_000, metavar='N', help='of a training (1,000)')
    parser.add_argument('--batch', type=positive, default=64, metavar='B', help='questions a step (64)')
    parser.add_argument('--weight', type=share, default=0.5, metavar='W', help='of the scores in the loss (0.5)')
    parser.add_argument('--temperature', type=float, default=2.0, metavar='T', help='of the scores (2)')
    parser.add_argument('--more', nargs='+', default=[], metavar='KEY=VALUE', help='other values of the config')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if not (args.rooms / 'vqa').is_dir():
        raise KoviltError(f'{args.rooms}: no Rooms; kovilt rooms {args.rooms} --images 40000 --val-images 500')
    args.out.mkdir(parents=True, exist_ok=True)
    check_settings(args.out, {'rooms': str(args.rooms), 'batch': args.batch, 'more': args.more})
    teacher = args.out / f'teacher_{args.questions}.arrow'
    if not teacher.exists():
        options = ['--workers', 1, '--cfg-options', *_data(args), *args.more]
        _run(args, teacher, commands.kovilt('distill', TEACHER, CONFIG, '--out', teacher, *options))
    losses = f'model.vqa_head.distillation_temperature={args.temperature}'
    variants = {
        'labels': ['model.vqa_head.distillation_weight=0.0', losses],
        f'teacher_{args.weight:g}_{args.temperature:g}': [
            f'model.vqa_head.distillation_weight={args.weight}',
            losses,
        ],
    }
    runs = [
        [
            train_and_test(
                partial(_run, args, teacher),
                CONFIG,
                args.out / f'{name}_{args.questions}_{args.steps}_{seed}',
                [*_data(args), *options, *args.more],
                steps=args.steps,
                batch=args.batch,
                seed=seed,
            )
            for name, options in variants.items()
        ]
        for seed in args.seeds
    ]
    results = compare(args.seeds, runs)
    write_json(args.out / 'results.json', {'questions': args.questions, 'steps': args.steps, 'rows': results})
    print(markdown_table(_HEADER, [_cells(row) for row in results]))
    print()
    pooled = results[-1]['types']
    print(
        markdown_table(['answer type', *_HEADER[1:]], [_cells(part | {'seed': name}) for name, part in pooled.items()])
    )


def compare(seeds: list[int], runs: list[list[Path]]) -> list[dict[str, Any]]:
    """What `compare_predictions` finds for each seed, and for all of them together; `runs` holds the two of each."""
    from kovilt.evaluation.comparison import compare_predictions, pool_predictions, read_predictions

    pairs = [[read_predictions(path) for path in pair] for pair in runs]
    found = [
        {'seed': seed, **compare_predictions(*pair, names=(str(paths[0]), str(paths[1])))}
        for seed, pair, paths in zip(seeds, pairs, runs, strict=True)
    ]
    pooled = [pool_predictions(dict(zip(seeds, own, strict=True))) for own in zip(*pairs, strict=True)]
    return [*found, {'seed': 'all', **compare_predictions(*pooled)}]


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row['difference_interval']
    accuracies = [f'{accuracy:.2f}' for accuracy in row['accuracy']]
    return [
        str(row['seed']),
        f'{row["questions"]:,}',
        *accuracies,
        f'{row["difference"]:+.2f}',
        f'{low:+.2f} to {high:+.2f}',
    ]


def _data(args: argparse.Namespace) -> list[str]:
    """Config options that choose the same training questions for the teacher and for all seeds."""
    return [f'train_dataloader.dataset.limit={args.questions}', 'train_dataloader.dataset.seed=0']


def _run(args: argparse.Namespace, teacher: Path, command: list[str]) -> float:
    """As `run_kovilt`, on the data of ROOMS and with the scores of the teacher."""
    return run_kovilt(command, KOVILT_ROOMS=str(args.rooms), KOVILT_TEACHER=str(teacher))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
