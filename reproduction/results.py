"""Collects what the finished steps of a reproduction have measured, and writes its tables and curves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from kovilt.datasets.answers import AnswerVocabulary
from kovilt.engine.config import load_config
from kovilt.evaluation.comparison import compare_predictions, pool_predictions, read_predictions
from kovilt.files import read_json, write_json, write_text
from kovilt.registry import DATASETS
from kovilt.visualization import Curve, Panel, draw_curves, read_metrics
from reproduction.plan import Reproduction
from reproduction.scales import ALIGNMENT_BASELINES, FINE_TUNING_VARIANTS
from reproduction.tables import MODELS, paper_tables, runs_of_kind


def describe_data(plan: Reproduction) -> dict[str, Any]:
    """The numbers of table 1: rows, images and answers of the data sets, as the readers report them."""

    def build(loader: Config, **changes: Any) -> Any:
        options = {**loader.dataset.to_dict(), 'image_pipeline': [], 'text_pipeline': [], **changes}
        options.pop('cache_images', None)
        return DATASETS.build(options)

    def count_rows(dataset: Any) -> dict[str, int]:
        return {'rows': len(dataset), 'images': dataset.num_images, 'left_out': sum(dataset.left_out.values())}

    config = load_config(plan.configs.scratch, plan.config_options('scratch'))
    captions = load_config(plan.configs.pretrain)
    parts: dict[str, dict[str, Any]] = {}
    with DefaultScope.overwrite_default_scope('kovilt'):
        frequent = build(config.train_dataloader)
        everything = build(config.train_dataloader, answers={'min_count': 1})
        all_answers = everything.answer_vocabulary
        counts = dict(zip(all_answers.answers, all_answers.counts, strict=True))
        vocabulary = AnswerVocabulary.build(counts, min_count=frequent.answer_vocabulary.min_count)
        parts['training questions'] = {
            **count_rows(frequent),
            'answers_kept': len(vocabulary),
            'answers_removed': len(counts) - len(vocabulary),
            'coverage': 100 * vocabulary.coverage(counts),
        }
        validation = build(config.val_dataloader)
        answers = Counter(validation.record(row)['answer'] for row in range(len(validation)))
        parts['validation questions'] = {
            **count_rows(validation),
            'coverage': 100 * vocabulary.coverage(answers),
        }
        if plan.scale.images or not plan.encoder:
            parts['training captions'] = count_rows(build(captions.train_dataloader))
            parts['validation captions'] = count_rows(build(captions.val_dataloader))
    return {'min_count': vocabulary.min_count, 'parts': parts}


def collect_results(plan: Reproduction, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The results of the finished steps as plain values. `seconds`: of each finished step, by name."""
    runs = {
        name: _read_run(plan, name, seconds)
        for name, training in plan.trainings.items()
        if name in seconds and training.config not in ('pretrain', 'single_objects')
    }
    machine = next((plan.work_dir / name / 'environment.json' for name in runs), None)
    full = [run['rows'] for run in runs.values() if not run['kind'].startswith('subset_')]
    variants = {name: variant.title for name, variant in plan.variants.items()} | ALIGNMENT_BASELINES
    table1, cost = plan.work_dir / 'table1.json', plan.work_dir / 'cost' / 'cost.json'
    return {
        'settings': {
            'target_accuracies': list(plan.scale.target_accuracies),
            'rows': full[0] if full else 0,
            'pretraining': variants,
            'fine_tuning': {name: variant.title for name, variant in FINE_TUNING_VARIANTS.items()},
        },
        'environment': read_json(machine) if machine else {},
        'data': read_json(table1) if table1.is_file() else {},
        'cost': read_json(cost) if 'cost' in seconds else {},
        'runs': runs,
        'comparisons': _compare_kinds(plan, runs),
        'alignment': _read_alignment(plan, seconds),
    }


def _read_run(plan: Reproduction, name: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """A finished training and, if it was evaluated, the metrics of its test."""
    folder, training = plan.work_dir / name, plan.trainings[name]
    metrics = read_metrics(folder)
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    run = {
        'kind': training.kind,
        'seed': training.seed,
        'curve': list(zip(*metrics['val/accuracy'], strict=True)),  # (step, accuracy)
        'majority': metrics['val/majority_accuracy'][1][-1],
        'epoch': next((line for line in reversed(lines) if line['mode'] == 'epoch'), {}),
        'rows': read_json(folder / 'data.json')['train']['rows'],
        'seconds': seconds[name],
    }
    if training.config == 'question_only':  # its last validation has the same questions
        run['test'] = {key.removeprefix('val/'): values[-1] for key, (_, values) in metrics.items() if 'val/' in key}
    elif f'{name}_test' in seconds:
        run['test'] = read_json(plan.work_dir / f'{name}_test' / 'metrics.json')['metrics']
    return run


def _read_alignment(plan: Reproduction, seconds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    scores = {}
    for step in seconds:
        if step.startswith('align_'):
            name = step.removeprefix('align_')
            score = read_json(plan.work_dir / step / 'alignment.json')
            score.pop('per_name')
            scores[name] = {'variant': name.rpartition('_')[0], **score}
    return scores


def _compare_kinds(plan: Reproduction, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Paired differences between kinds of trainings, pooled over the seeds that both have."""

    def predictions(kind: str) -> dict[int, Any]:
        return {
            run['seed']: read_predictions(plan.work_dir / f'{name}_test' / 'predictions.jsonl')
            for name, run in runs.items()
            if run['kind'] == kind and 'test' in run
        }

    pairs = [('pretrained', 'meter'), ('scratch', 'meter'), ('pretrained', 'scratch')]
    pairs += [(f'tuned_{variant}', 'tuned_full') for variant in plan.variants if variant != 'full']
    pairs += [(f'subset_{variant}', 'subset_pretrained') for variant in FINE_TUNING_VARIANTS if variant != 'pretrained']
    comparisons = {}
    for kind, reference in pairs:
        a, b = predictions(reference), predictions(kind)
        seeds = sorted(a.keys() & b.keys())
        if seeds:
            found = compare_predictions(*(pool_predictions({seed: side[seed] for seed in seeds}) for side in (a, b)))
            found.pop('mcnemar_p')  # valid only for questions that were asked once
            comparisons[f'{kind} - {reference}'] = {'seeds': len(seeds), **found}
    return comparisons


def draw_accuracy_curves(results: Mapping[str, Any], out: Path) -> Path | None:
    """Draw accuracy against steps, means over the seeds; None when no training is finished."""

    def panel(title: str, kinds: Mapping[str, str]) -> Panel:
        curves, levels = [], {}
        for kind, label in kinds.items():
            runs = runs_of_kind(results, kind)
            if runs:
                steps = [step for step, _ in runs[0]['curve']]
                by_step = zip(*([value for _, value in run['curve']] for run in runs), strict=False)
                values = [mean(column) for column in by_step]
                curves.append(Curve(label, steps[: len(values)], values))
                levels = {'most frequent answer': runs[0]['majority']}
        return Panel(title, 'validation accuracy, %', curves, levels)

    panels = [
        panel('Table 2: all of the data', MODELS),
        panel('Table 3: a small part', {f'subset_{model}': title for model, title in MODELS.items()}),
    ]
    return draw_curves(panels, out) if any(one.curves for one in panels) else None


def write_tables(results: Mapping[str, Any], work_dir: Path, introduction: str) -> list[Path]:
    """Write tables.md, results.json, curves.png and the CSV files; returns their paths."""
    tables = paper_tables(results)
    write_json(work_dir / 'results.json', results)
    files = {'tables.md': '\n'.join([introduction, *(table.markdown() for table in tables)])}
    files |= {f'{table.name}.csv': table.csv() for table in tables}
    for name, text in files.items():
        write_text(work_dir / name, text)
    curves = draw_accuracy_curves(results, work_dir / 'curves.png')
    return [work_dir / name for name in sorted([*files, 'results.json'])] + ([curves] if curves else [])
