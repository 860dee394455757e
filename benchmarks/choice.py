"""Multiple choice on Rooms: four models trained on the same questions, and two pre-trained ones that are only asked.

    kovilt rooms data/rooms --images 10000 --val-images 500 --choices
    python -m benchmarks.choice data/rooms --out work_dirs/choices --meter work_dirs/meter_pretrain/iter_2000.pth

Trains configs/rooms/choice.py (from the packaged encoder), choice_meter.py (from --meter, a checkpoint of
rooms/meter_pretrain), choice_vocabulary.py (an answer head, from the packaged encoder) and choice_question_only.py
(without images), each once for each seed, with as many steps of as many questions. "Not trained" are the matching heads
of the first two before that. One table has the accuracy of each model in percent by answer type, with the 95 % interval
(bootstrap of images) of the seeds pooled; a second the difference of each model to the first, paired; a third the
accuracy of each seed.

Repeated with the same --out, the command goes on where it was; runs that are complete are not repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import markdown_table
from benchmarks.timing import run_kovilt
from benchmarks.training_runs import check_settings, test, train_and_test
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from kovilt.files import read_json_lines, write_json

if TYPE_CHECKING:
    from kovilt.evaluation.comparison import Predictions

MODELS = {
    'ViLT': 'rooms/choice',
    'METER': 'rooms/choice_meter',
    'answer head': 'rooms/choice_vocabulary',
    'without images': 'rooms/choice_question_only',
}
UNTRAINED = {'ViLT': 'rooms_encoder', 'METER': None}  # None: of --meter
_WITHOUT_ANSWERS = {'문장', '색과 종류', '처음 보는 색과 종류'}  # types that only a choice can ask


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument('rooms', type=Path, metavar='ROOMS', help='folder written by `kovilt rooms --choices`')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='of the runs and the results')
    parser.add_argument('--meter', metavar='CHECKPOINT', help='of rooms/meter_pretrain; without it METER is left out')
    parser.add_argument('--seeds', type=at_least(0), nargs='+', default=[0, 1, 2], metavar='S', help='(0 1 2)')
    parser.add_argument('--steps', type=positive, default=1_000, metavar='N', help='of a training (1,000)')
    parser.add_argument('--batch', type=positive, default=32, metavar='B', help='questions a step (32)')
    parser.add_argument('--more', nargs='+', default=[], metavar='KEY=VALUE', help='other values of the configs')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    from kovilt.evaluation.comparison import read_predictions

    options = args.rooms / 'choices' / 'val.jsonl'
    if not options.is_file():
        raise KoviltError(f'{args.rooms}: no multiple choice; kovilt rooms {args.rooms} --choices draws it')
    args.out.mkdir(parents=True, exist_ok=True)
    check_settings(args.out, {'rooms': str(args.rooms), 'meter': args.meter, 'batch': args.batch, 'more': args.more})
    run = partial(_run, args)
    columns = {}
    for name, model in UNTRAINED.items():
        if start := model or args.meter:
            work_dir = args.out / f'untrained_{name}'
            columns[f'{name}, not trained'] = {0: test(run, MODELS[name], start, work_dir, args.more)}
    for name, config in MODELS.items():
        if name == 'METER' and not args.meter:
            continue
        columns[name] = {
            seed: train_and_test(
                run,
                config,
                args.out / f'{Path(config).name}_{args.steps}_{seed}',
                args.more,
                steps=args.steps,
                batch=args.batch,
                seed=seed,
                load_from=args.meter if name == 'METER' else '',
            )
            for seed in args.seeds
        }
    found = {name: {seed: read_predictions(path) for seed, path in paths.items()} for name, paths in columns.items()}
    results = summarize(found, {str(row['question_id']): row for _, row in read_json_lines(options, 'table')})
    write_json(args.out / 'results.json', results)
    for table in tables(results):
        print(table, end='\n\n')


def summarize(found: Mapping[str, Mapping[int, Predictions]], questions: Mapping[str, dict]) -> dict[str, Any]:
    """Accuracies in percent by answer type: `random`, `models` pooled over their seeds, `differences` to the first one
    trained, and `seeds`.

    Args:
        found: the predictions of each model by seed.
        questions: by id, with their `options`.
    """
    import numpy as np

    from kovilt.evaluation.comparison import compare_predictions, pool_predictions
    from kovilt.evaluation.scoring import bootstrap_interval, groups_by_size

    first = next(iter(next(iter(found.values())).values()))
    types = {name: {row['answer_type'] for row in first.values()} for name in ['all', 'ordinary']}
    types['ordinary'] -= _WITHOUT_ANSWERS
    types |= {name: {name} for name in groups_by_size(np.array([row['answer_type'] for row in first.values()]))}

    def pick(runs: Mapping[int, Predictions], part: set[str]) -> Predictions:
        own = ({name: row for name, row in run.items() if row['answer_type'] in part} for run in runs.values())
        return pool_predictions(dict(zip(runs, own, strict=True)))

    trained = [name for name, runs in found.items() if name in MODELS]
    results: dict[str, Any] = {'questions': {}, 'random': {}, 'models': {}, 'differences': {}}
    for part, members in types.items():
        asked = [name for name, row in first.items() if row['answer_type'] in members]
        if not asked:
            continue
        results['questions'][part] = len(asked)
        results['random'][part] = 100 * float(np.mean([1 / len(questions[name]['options']) for name in asked]))
        for name, runs in found.items():
            rows = pick(runs, members).values()
            scores = np.array([100.0 * row['correct'] for row in rows])
            interval = bootstrap_interval(scores, [row['image'] for row in rows])
            results['models'].setdefault(name, {})[part] = [float(scores.mean()), *interval]
        for name in trained[1:]:
            pair = (pick(found[trained[0]], members), pick(found[name], members))
            compared = compare_predictions(*pair, names=(trained[0], name))
            interval = compared['difference_interval']
            results['differences'].setdefault(name, {})[part] = [compared['difference'], *interval]
    results['seeds'] = {
        name: {
            str(seed): 100 * float(np.mean([row['correct'] for row in run.values()]))
            for seed, run in found[name].items()
        }
        for name in trained
    }
    return results


def tables(results: dict[str, Any]) -> list[str]:
    """The three tables of `summarize`."""
    parts, models, differences = (results[key] for key in ('questions', 'models', 'differences'))
    accuracy = [
        [
            part,
            f'{count:,}',
            f'{results["random"][part]:.1f}',
            *('{:.1f} ({:.1f} to {:.1f})'.format(*own[part]) for own in models.values()),
        ]
        for part, count in parts.items()
    ]
    paired = [
        [part, *('{:+.1f} ({:+.1f} to {:+.1f})'.format(*own[part]) for own in differences.values())] for part in parts
    ]
    by_seed = results['seeds']
    first = next(iter(by_seed))
    seeds = [[name, *(f'{value:.1f}' for value in own.values())] for name, own in by_seed.items()]
    return [
        markdown_table(['options', 'questions', 'at random', *models], accuracy),
        markdown_table(['options', *(f'{name} minus {first}' for name in differences)], paired),
        markdown_table(['all', *(f'seed {seed}' for seed in by_seed[first])], seeds),
    ]


def _run(args: argparse.Namespace, command: list[str]) -> float:
    """As `run_kovilt`, on the data of ROOMS."""
    return run_kovilt(command, KOVILT_ROOMS=str(args.rooms))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
