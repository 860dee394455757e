"""The paper's tables as Markdown and CSV, made from the results of a reproduction.

Results are the plain values of `results.json` (`reproduction_results.collect_results`). Accuracies are in percent, "±"
is the standard deviation over seeds, intervals are 95 % intervals. A table without results is left out; "–" stands for
a missing value.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduction import paper

MODELS = {'meter': 'METER', 'scratch': 'ViLT, no pre-training', 'pretrained': 'ViLT, pre-trained'}
MISSING = '–'


@dataclass(frozen=True)
class PaperTable:
    """A table. name: stem of its CSV file; note: the text below it."""

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''

    def markdown(self) -> str:
        lines = [self.header, ['---', *['---:'] * (len(self.header) - 1)], *self.rows]
        table = '\n'.join('| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines)
        return f'## {self.title}\n\n{table}\n' + (f'\n{self.note}\n' if self.note else '')

    def csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator='\n').writerows([self.header, *self.rows])
        return out.getvalue()


def paper_tables(results: Mapping[str, Any]) -> list[PaperTable]:
    """All tables for which there are results, in the order of the paper."""
    makers: list[Callable[[Mapping[str, Any]], PaperTable | None]] = [
        data_table, model_table, type_table, epoch_table, convergence_table, ablation_table, fine_tuning_table,
    ]  # fmt: skip
    return [table for maker in makers if (table := maker(results)) is not None]


def runs_of_kind(results: Mapping[str, Any], kind: str, *, tested: bool = False) -> list[Mapping[str, Any]]:
    """The finished trainings of a kind, by seed; `tested`: only those that have been evaluated."""
    runs = [run for run in results['runs'].values() if run['kind'] == kind and ('test' in run or not tested)]
    return sorted(runs, key=lambda run: run['seed'])


def format_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds; for a single seed its value alone."""
    if not values:
        return MISSING
    mean = f'{statistics.mean(values):.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def format_difference(comparison: Mapping[str, Any] | None) -> str:
    """A paired difference with its interval."""
    if comparison is None:
        return MISSING
    low, high = comparison['difference_interval']
    return f'{comparison["difference"]:+.2f} ({low:+.2f} to {high:+.2f})'


def data_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Table 1: the data after rare answers are removed."""
    data = results.get('data')
    if not data:
        return None
    rows = [
        [
            name,
            f'{part["rows"]:,}',
            f'{part["images"]:,}',
            f'{part["left_out"]:,}',
            *(f'{part[key]:,}' if key in part else MISSING for key in ('answers_kept', 'answers_removed')),
            f'{part["coverage"]:.2f}' if 'coverage' in part else MISSING,
        ]
        for name, part in data['parts'].items()
    ]
    return PaperTable(
        'table1',
        'Table 1: data after filtering',
        ['set', 'rows', 'images', 'rows left out', 'answers kept', 'answers removed', 'coverage, %'],
        rows,
        f'Answers seen {data["min_count"] - 1} times or fewer in training are removed, with their training rows. '
        'Coverage is the share of all rows whose answer is kept. No validation row is removed: one with an '
        f'out-of-vocabulary answer counts as wrong. The paper: {paper.TRAINING_QUESTIONS:,} training rows, a '
        f'validation set of {paper.VALIDATION_QUESTIONS:,} that is also the test set, about 600,000 captions.',
    )


def model_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Table 2: accuracy and cost of the three models."""
    runs = {model: runs_of_kind(results, model, tested=True) for model in MODELS}
    cost = results.get('cost') or {}
    if not any(runs.values()) and not cost:
        return None
    costs = {model: cost.get('models', {}).get('METER' if model == 'meter' else 'ViLT') for model in MODELS}
    compared = results['comparisons']

    def row(name: str, cell: Callable[[str], str]) -> list[str]:
        return [name, *(cell(model) for model in MODELS)]

    def cost_row(name: str, cell: Callable[[Mapping[str, Any]], str]) -> list[str]:
        return row(name, lambda model: cell(costs[model]) if costs[model] else MISSING)

    def memory(model: str) -> str:
        peaks = [run['epoch']['peak_memory_mb'] for run in runs[model] if 'peak_memory_mb' in run.get('epoch', {})]
        return f'{max(peaks):,.0f}' if peaks else MISSING

    def relative_speed(cost: Mapping[str, Any]) -> str:
        meter = costs['meter']
        return f'{cost["questions_per_second"] / meter["questions_per_second"]:.2f}' if meter else MISSING

    def paper_epoch_hours(cost: Mapping[str, Any]) -> str:
        return f'{paper.TRAINING_QUESTIONS / cost["questions_per_second"] / 3600:.2f}'

    rows = [
        row('accuracy, %, mean ± std', lambda model: format_spread([run['test']['accuracy'] for run in runs[model]])),
        row('each seed', lambda model: ', '.join(f'{run["test"]["accuracy"]:.2f}' for run in runs[model]) or MISSING),
        row('minus METER', lambda model: format_difference(compared.get(f'{model} - meter'))),
        row('minus ViLT without pre-training', lambda model: format_difference(compared.get(f'{model} - scratch'))),
        row('the paper, %', lambda model: f'{paper.ACCURACY[model]:.2f}'),
        cost_row('training, questions/s', lambda cost: f'{cost["questions_per_second"]:,.1f}'),
        cost_row('relative to METER', relative_speed),
        cost_row('an epoch of these rows, s', lambda cost: f'{cost["epoch_seconds"]:,.1f}'),
        cost_row(f'an epoch of {paper.TRAINING_QUESTIONS:,} rows, h', paper_epoch_hours),
        row('the paper, h', lambda model: f'{paper.EPOCH_HOURS[model]:g}'),
        cost_row('parameters, 10^6', lambda cost: f'{cost["parameters"] / 1e6:.2f}'),
        cost_row('multiply-adds a question, 10^9', lambda cost: f'{cost["multiply_adds"] / 1e9:.3f}'),
        row('peak memory of training, MiB', memory),
    ]
    return PaperTable(
        'table2',
        'Table 2: accuracy and time of an epoch',
        ['', *MODELS.values()],
        rows,
        '\n'.join(filter(None, [_describe_baselines(results, runs), _describe_timing(cost)])),
    )


def _describe_baselines(results: Mapping[str, Any], runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    tested = [run['test'] for group in runs.values() for run in group]
    if not tested:
        return ''
    question_only = [run['test']['accuracy'] for run in runs_of_kind(results, 'question_only', tested=True)]
    without = f' Without images ViLT reaches {format_spread(question_only)} %.' if question_only else ''
    return (
        f'{tested[0]["questions"]:,} validation questions; the most frequent answer alone is correct for '
        f'{tested[0]["majority_accuracy"]:.2f} % of them.{without} The intervals of differences are paired by '
        'question, pooled over the seeds and bootstrapped over images: they show the variation between questions, and '
        '± that between seeds.'
    )


def _describe_timing(cost: Mapping[str, Any]) -> str:
    if not cost:
        return ''
    precision = 'mixed precision' if cost['amp'] else 'float32'
    return (
        f'Times: training steps of both models in turn, with nothing else running, {precision}, on {cost["device"]} '
        f'with {cost["threads"]} thread(s) (`benchmarks/model_cost.py`), without reading images and without '
        'evaluation; the time of an epoch is computed from this rate. Both ViLT columns are the same model. '
        'Multiply-adds: one forward pass, mean over questions of the data. Peak memory: of the training runs; on a GPU '
        'the tensors, on a CPU the whole process.'
    )


def type_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Accuracy and differences by answer type."""
    pairs = {
        'pretrained - meter': 'pre-trained − METER',
        'scratch - meter': 'no pre-training − METER',
        'pretrained - scratch': 'pre-trained − no pre-training',
    }
    comparisons = {name: results['comparisons'][name] for name in pairs if name in results['comparisons']}
    if not comparisons:
        return None
    accuracies: dict[str, dict[str, float]] = {}
    for name, comparison in comparisons.items():
        for answer_type, part in comparison['types'].items():
            model, _, reference = name.partition(' - ')
            accuracies.setdefault(answer_type, {}).update(zip((reference, model), part['accuracy'], strict=True))
    first = next(iter(comparisons.values()))
    question_only = [run['test'] for run in runs_of_kind(results, 'question_only', tested=True)]
    rows = []
    for answer_type, accuracy in accuracies.items():
        questions = first['types'][answer_type]['questions'] // first['seeds']
        models = [f'{accuracy[model]:.1f}' if model in accuracy else MISSING for model in MODELS]
        without_image = [test[f'accuracy/{answer_type}'] for test in question_only]
        models.append(f'{statistics.mean(without_image):.1f}' if without_image else MISSING)
        differences = [comparisons[name]['types'].get(answer_type) if name in comparisons else None for name in pairs]
        rows.append([answer_type, f'{questions:,}', *models, *map(format_difference, differences)])
    header = ['answer type', 'questions', *MODELS.values(), 'ViLT, no image', *pairs.values()]
    note = 'Percent; differences in points with their interval.'
    return PaperTable('types', 'Accuracy by answer type', header, rows, note)


def epoch_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Table 3: accuracy after each epoch on a small part of the data."""
    runs = {model: runs_of_kind(results, f'subset_{model}') for model in paper.ACCURACY_BY_EPOCH}
    curves = {model: [[value for _, value in run['curve']] for run in group] for model, group in runs.items()}
    if not any(curves.values()):
        return None
    any_run = next(run for group in runs.values() for run in group)
    epochs = max(len(curve) for group in curves.values() for curve in group)
    rows = []
    for epoch in range(epochs):
        ours = [[curve[epoch] for curve in group if epoch < len(curve)] for group in curves.values()]
        papers = [f'{by[epoch]:.2f}' if epoch < len(by) else MISSING for by in paper.ACCURACY_BY_EPOCH.values()]
        rows.append([str(epoch + 1), *map(format_spread, ours), f'{any_run["majority"]:.2f}', *papers])
    names = [MODELS[model] for model in paper.ACCURACY_BY_EPOCH]
    whole = results['settings']['rows']
    share = f', {any_run["rows"] / whole:.1%} of all' if whole else ''
    return PaperTable(
        'table3',
        'Table 3: accuracy by epoch on a small part of the data',
        ['epoch', *names, 'most frequent answer', *(f'the paper: {name}' for name in names)],
        rows,
        f'{any_run["rows"]:,} training questions{share}, sampled by each seed; mean ± standard deviation. The '
        "paper's numbers are of its own data, about 80,000 questions.",
    )


def convergence_table(results: Mapping[str, Any]) -> PaperTable | None:
    """When a training of table 3 leaves the plateau, and when it reaches the target accuracies."""
    targets = results['settings']['target_accuracies']
    rows = []
    for model in paper.ACCURACY_BY_EPOCH:
        for run in runs_of_kind(results, f'subset_{model}'):
            values = [value for _, value in run['curve']]
            reached = [first_epoch_at(values, target) for target in targets]
            cells = [first_epoch_at(values, run['majority'], above=True), *reached]
            shown = [str(epoch) if epoch else f'not in {len(values)}' for epoch in cells]
            rows.append([MODELS[model], str(run['seed']), *shown, f'{values[-1]:.2f}'])
    if not rows:
        return None
    return PaperTable(
        'convergence',
        'Table 3: the first epoch that reaches an accuracy',
        ['model', 'seed', 'above the most frequent answer', *(f'{target:g} %' for target in targets), 'last, %'],
        rows,
    )


def first_epoch_at(values: Sequence[float], target: float, *, above: bool = False) -> int:
    """The first epoch, from 1, whose accuracy is at least `target` (`above`: more than it); 0 = none."""
    return next((epoch for epoch, value in enumerate(values, 1) if (value > target if above else value >= target)), 0)


def ablation_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Variants of pre-training: alignment of words, and accuracy after fine-tuning."""
    rows = []
    for variant, title in results['settings']['pretraining'].items():
        scores = [score for score in results['alignment'].values() if score['variant'] == variant]
        runs = runs_of_kind(results, f'tuned_{variant}', tested=True)
        if not scores and not runs:
            continue
        columns = [
            [score[f'alignment_{key}'] for score in scores if score[f'alignment_{key}'] is not None]
            for key in ('accuracy', 'swapped', 'random')
        ]
        rows.append(
            [
                title,
                *(format_spread(column, 1) for column in columns),
                format_spread([run['test']['accuracy'] for run in runs]),
                format_difference(results['comparisons'].get(f'tuned_{variant} - tuned_full')),
            ]
        )
    if not rows:
        return None
    return PaperTable(
        'ablations',
        'Variants of pre-training',
        [
            'pre-training',
            'words aligned with their object, %',
            "with the patch of the image's other words",
            'with a random patch',
            'accuracy after fine-tuning, %',
            'minus the first row',
        ],
        rows,
        'All rows with an accuracy have the same number of steps of pre-training and fine-tuning, from random weights; '
        'far fewer than the shipped encoder, so compare them with each other and not with table 2. A word is aligned '
        'with its object when the patch that receives most of its transport mass lies in the box of the object.',
    )


def fine_tuning_table(results: Mapping[str, Any]) -> PaperTable | None:
    """Variants of fine-tuning the same encoder."""
    rows = []
    for variant, title in results['settings']['fine_tuning'].items():
        runs = runs_of_kind(results, f'subset_{variant}', tested=True)
        if runs:
            accuracy = format_spread([run['test']['accuracy'] for run in runs])
            comparison = results['comparisons'].get(f'subset_{variant} - subset_pretrained')
            rows.append([title, accuracy, format_difference(comparison)])
    if len(rows) < 2:
        return None
    header = ['fine-tuning', 'accuracy, %', 'minus the first row']
    return PaperTable('fine_tuning', "Variants of fine-tuning, on table 3's part of the data", header, rows)
