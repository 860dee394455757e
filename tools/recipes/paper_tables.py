"""The paper's tables from the results of runs: what `tools/reproduce.py` has gathered, as Markdown and CSV.

Results are plain values, as `results.json` holds them. Accuracies are in percent; "±" is the standard deviation over
seeds; intervals are of 95 %. What has not been run is left out, a cell without a value is "–".
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODELS = {'meter': 'METER', 'scratch': 'ViLT, no pre-training', 'pretrained': 'ViLT, pre-trained'}

# What the paper says.
PAPER_ROWS, PAPER_DEV_ROWS = 1_646_080, 3_000
PAPER_ACCURACY = {'meter': 85.24, 'scratch': 79.46, 'pretrained': 78.61}
PAPER_EPOCH_HOURS = {'meter': 24.0, 'scratch': 2.0, 'pretrained': 2.0}
PAPER_BY_EPOCH = {'scratch': (5.21, 5.21, 5.21, 5.21, 5.28), 'pretrained': (5.21, 5.21, 5.21, 9.14, 21.95)}

NONE = '–'


@dataclass(frozen=True)
class Table:
    """A table with its title, its file's stem and what a reader must know of it."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''

    def markdown(self) -> str:
        lines = [self.head, ['---', *['---:'] * (len(self.head) - 1)], *self.rows]
        table = '\n'.join('| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines)
        return f'## {self.title}\n\n{table}\n' + (f'\n{self.note}\n' if self.note else '')

    def csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator='\n').writerows([self.head, *self.rows])
        return out.getvalue()


def paper_tables(results: Mapping[str, Any]) -> list[Table]:
    """All tables that the results have anything for, in the paper's order."""
    makers: list[Callable[[Mapping[str, Any]], Table | None]] = [
        data_table, model_table, type_table, epoch_table, convergence_table, ablation_table, tuning_table,
    ]  # fmt: skip
    return [table for maker in makers if (table := maker(results)) is not None]


def runs_of(results: Mapping[str, Any], kind: str, *, tested: bool = False) -> list[Mapping[str, Any]]:
    """The finished runs of a kind, by seed; `tested`: those with all their answers evaluated."""
    runs = [run for run in results['runs'].values() if run['kind'] == kind and ('test' in run or not tested)]
    return sorted(runs, key=lambda run: run['seed'])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds; of a single seed only its value."""
    if not values:
        return NONE
    mean = f'{statistics.mean(values):.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def difference(comparison: Mapping[str, Any] | None) -> str:
    """A paired difference with its interval."""
    if comparison is None:
        return NONE
    low, high = comparison['difference_interval']
    return f'{comparison["difference"]:+.2f} ({low:+.2f} to {high:+.2f})'


def data_table(results: Mapping[str, Any]) -> Table | None:
    """Table 1: what is there, and what the filter of rare answers leaves."""
    data = results.get('data')
    if not data:
        return None
    rows = [
        [
            name,
            f'{part["rows"]:,}',
            f'{part["images"]:,}',
            f'{part["left_out"]:,}',
            *(f'{part[key]:,}' if key in part else NONE for key in ('answers_kept', 'answers_removed')),
            f'{part["coverage"]:.2f}' if 'coverage' in part else NONE,
        ]
        for name, part in data['parts'].items()
    ]
    return Table(
        'table1',
        'Table 1: data after filtering',
        ['set', 'rows', 'images', 'rows left out', 'answers kept', 'answers removed', 'coverage, %'],
        rows,
        f'Answers that training has {data["min_count"] - 1} times or fewer are removed, with their training rows; '
        'coverage is the share of rows, before that, whose answer is kept. No dev row is removed: one whose answer the '
        f'models do not have counts as wrong. The paper: {PAPER_ROWS:,} training rows, a dev set of '
        f'{PAPER_DEV_ROWS:,} that is also its test set, about 600,000 captions.',
    )


def model_table(results: Mapping[str, Any]) -> Table | None:
    """Table 2: accuracy and cost of the three models."""
    runs = {model: runs_of(results, model, tested=True) for model in MODELS}
    cost = results.get('cost') or {}
    if not any(runs.values()) and not cost:
        return None
    costs = {model: cost.get('models', {}).get('METER' if model == 'meter' else 'ViLT') for model in MODELS}
    compared = results['comparisons']

    def row(name: str, cell: Callable[[str], str]) -> list[str]:
        return [name, *(cell(model) for model in MODELS)]

    def costing(name: str, tell: Callable[[Mapping[str, Any]], str]) -> list[str]:
        return row(name, lambda model: tell(costs[model]) if costs[model] else NONE)

    def memory(model: str) -> str:
        peaks = [run['epoch']['peak_memory_mb'] for run in runs[model] if 'peak_memory_mb' in run.get('epoch', {})]
        return f'{max(peaks):,.0f}' if peaks else NONE

    def times_meter(one: Mapping[str, Any]) -> str:
        return f'{one["questions_per_second"] / costs["meter"]["questions_per_second"]:.2f}' if costs['meter'] else NONE

    rows = [
        row('accuracy, %, mean ± std', lambda model: spread([run['test']['accuracy'] for run in runs[model]])),
        row('each seed', lambda model: ', '.join(f'{run["test"]["accuracy"]:.2f}' for run in runs[model]) or NONE),
        row('less METER', lambda model: difference(compared.get(f'{model} - meter'))),
        row('less ViLT without pre-training', lambda model: difference(compared.get(f'{model} - scratch'))),
        row('the paper, %', lambda model: f'{PAPER_ACCURACY[model]:.2f}'),
        costing('training, questions/s', lambda one: f'{one["questions_per_second"]:,.1f}'),
        costing('times METER', times_meter),
        costing('an epoch of these rows, s', lambda one: f'{one["epoch_seconds"]:,.1f}'),
        costing(
            f'an epoch of {PAPER_ROWS:,} rows, h', lambda one: f'{PAPER_ROWS / one["questions_per_second"] / 3600:.2f}'
        ),
        row('the paper, h', lambda model: f'{PAPER_EPOCH_HOURS[model]:g}'),
        costing('parameters, 10^6', lambda one: f'{one["parameters"] / 1e6:.2f}'),
        costing('multiply-adds a question, 10^9', lambda one: f'{one["multiply_adds"] / 1e9:.3f}'),
        row('peak memory of training, MiB', memory),
    ]
    return Table(
        'table2',
        'Table 2: accuracy and time of an epoch',
        ['', *MODELS.values()],
        rows,
        '\n'.join(filter(None, [_floor(results, runs), _how_timed(cost)])),
    )


def _floor(results: Mapping[str, Any], runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    tested = [run['test'] for group in runs.values() for run in group]
    if not tested:
        return ''
    blind = [run['test']['accuracy'] for run in runs_of(results, 'blind', tested=True)]
    without = f' Without images ViLT reaches {spread(blind)} %.' if blind else ''
    return (
        f'{tested[0]["questions"]:,} dev questions; always giving the most frequent answer is right for '
        f'{tested[0]["majority_accuracy"]:.2f} % of them.{without} Intervals: paired, question by question, pooled '
        'over the seeds, images redrawn; they hold the chance of the questions, ± that of the seeds.'
    )


def _how_timed(cost: Mapping[str, Any]) -> str:
    if not cost:
        return ''
    precision = 'mixed precision' if cost['amp'] else 'float32'
    return (
        f'Times: training steps of both models in turn, nothing beside them, {precision}, on {cost["device"]} with '
        f'{cost["threads"]} thread(s) (`benchmarks/model_cost.py`), without reading images and without '
        'evaluation; an epoch is their rate times its rows. Both ViLT columns are the same model. Multiply-adds: one '
        'forward pass, mean over questions of the data. Peak memory: of the training runs themselves; on a GPU its '
        'tensors, on a CPU the whole process.'
    )


def type_table(results: Mapping[str, Any]) -> Table | None:
    """Where the models differ: accuracy by answer type."""
    pairs = {
        'pretrained - meter': 'pre-trained − METER',
        'scratch - meter': 'no pre-training − METER',
        'pretrained - scratch': 'pre-trained − no pre-training',
    }
    compared = {name: results['comparisons'][name] for name in pairs if name in results['comparisons']}
    if not compared:
        return None
    seen: dict[str, dict[str, float]] = {}
    for name, one in compared.items():
        for kind, part in one['types'].items():
            later, _, earlier = name.partition(' - ')
            seen.setdefault(kind, {}).update({earlier: part['accuracy'][0], later: part['accuracy'][1]})
    first = next(iter(compared.values()))
    blind = [run['test'] for run in runs_of(results, 'blind', tested=True)]
    rows = [
        [
            kind,
            f'{first["types"][kind]["questions"] // first["seeds"]:,}',
            *(f'{accuracy[model]:.1f}' if model in accuracy else NONE for model in MODELS),
            f'{statistics.mean(test[f"accuracy/{kind}"] for test in blind):.1f}' if blind else NONE,
            *(difference(compared[name]['types'].get(kind)) if name in compared else NONE for name in pairs),
        ]
        for kind, accuracy in seen.items()
    ]
    head = ['answer type', 'questions', *MODELS.values(), 'ViLT, no image', *pairs.values()]
    return Table('types', 'Accuracy by answer type', head, rows, 'Percent; differences in points with their interval.')


def epoch_table(results: Mapping[str, Any]) -> Table | None:
    """Table 3: accuracy after each epoch on a small part of the data."""
    runs = {model: runs_of(results, f'part_{model}') for model in PAPER_BY_EPOCH}
    curves = {model: [[value for _, value in run['curve']] for run in group] for model, group in runs.items()}
    if not any(curves.values()):
        return None
    any_run = next(run for group in runs.values() for run in group)
    epochs = max(len(curve) for group in curves.values() for curve in group)
    rows = []
    for epoch in range(epochs):
        cells = [spread([c[epoch] for c in curves[model] if epoch < len(c)]) for model in PAPER_BY_EPOCH]
        paper = [f'{by[epoch]:.2f}' if epoch < len(by) else NONE for by in PAPER_BY_EPOCH.values()]
        rows.append([str(epoch + 1), *cells, f'{any_run["majority"]:.2f}', *paper])
    names = [MODELS[model] for model in PAPER_BY_EPOCH]
    whole = results['settings']['rows']
    share = f', {any_run["rows"] / whole:.1%} of all' if whole else ''
    return Table(
        'table3',
        'Table 3: accuracy by epoch on a small part of the data',
        ['epoch', *names, 'most frequent answer', *(f'the paper: {name}' for name in names)],
        rows,
        f'{any_run["rows"]:,} training questions{share}, drawn anew by each seed; mean ± standard deviation. The '
        "paper's numbers are those of its own data, about 80,000 questions.",
    )


def convergence_table(results: Mapping[str, Any]) -> Table | None:
    """Table 3's question: when does a model leave the plateau, and when does it reach a stated accuracy?"""
    marks = results['settings']['marks']
    rows = []
    for model in PAPER_BY_EPOCH:
        for run in runs_of(results, f'part_{model}'):
            values = [value for _, value in run['curve']]
            reached = [first_at(values, mark) for mark in marks]
            cells = [first_at(values, run['majority'], above=True), *reached]
            shown = [str(epoch) if epoch else f'not in {len(values)}' for epoch in cells]
            rows.append([MODELS[model], str(run['seed']), *shown, f'{values[-1]:.2f}'])
    if not rows:
        return None
    return Table(
        'convergence',
        'Table 3: the first epoch that reaches an accuracy',
        ['model', 'seed', 'above the most frequent answer', *(f'{mark:g} %' for mark in marks), 'last, %'],
        rows,
    )


def first_at(values: Sequence[float], mark: float, *, above: bool = False) -> int:
    """The first epoch, from 1, whose accuracy is at least `mark` (`above`: more than it); 0 = none."""
    return next((epoch for epoch, value in enumerate(values, 1) if (value > mark if above else value >= mark)), 0)


def ablation_table(results: Mapping[str, Any]) -> Table | None:
    """Pre-training with and without its parts: what words look at, and what fine-tuning makes of it."""
    rows = []
    for variant, title in results['settings']['pretraining'].items():
        scores = [score for score in results['alignment'].values() if score['variant'] == variant]
        runs = runs_of(results, f'tuned_{variant}', tested=True)
        if not scores and not runs:
            continue
        columns = [
            [score[f'alignment_{key}'] for score in scores if score[f'alignment_{key}'] is not None]
            for key in ('accuracy', 'swapped', 'chance')
        ]
        rows.append(
            [
                title,
                *(spread(column, 1) for column in columns),
                spread([run['test']['accuracy'] for run in runs]),
                difference(results['comparisons'].get(f'tuned_{variant} - tuned_full')),
            ]
        )
    if not rows:
        return None
    return Table(
        'ablations',
        'Ablations of pre-training',
        [
            'pre-training',
            'words that look at their object, %',
            "by the image's other words",
            'by chance',
            'accuracy after fine-tuning, %',
            'less the first row',
        ],
        rows,
        'All rows with an accuracy take the same steps of pre-training and fine-tuning from random weights, far fewer '
        'than the shipped body; they are compared with each other, not with table 2. A word looks at its object when '
        'the patch that gets most of its transported mass lies in the box of what it names.',
    )


def tuning_table(results: Mapping[str, Any]) -> Table | None:
    """Ways of fine-tuning the same body."""
    rows = []
    for variant, title in results['settings']['tuning'].items():
        runs = runs_of(results, f'part_{variant}', tested=True)
        if runs:
            accuracy = spread([run['test']['accuracy'] for run in runs])
            rows.append([title, accuracy, difference(results['comparisons'].get(f'part_{variant} - part_pretrained'))])
    if len(rows) < 2:
        return None
    head = ['fine-tuning', 'accuracy, %', 'less the first row']
    return Table('tuning', "Ablations of fine-tuning, on table 3's part of the data", head, rows)
