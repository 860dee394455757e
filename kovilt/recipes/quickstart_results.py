"""What a finished quickstart shows: summary, curves, a contact sheet, an HTML report and one question to the model."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.evaluation.breakdown import different_images, read_all_predictions
from kovilt.evaluation.table import format_table
from kovilt.files import read_bytes, read_json, read_json_lines
from kovilt.recipes import commands
from kovilt.recipes.commands import PRETRAINING_LOSSES
from kovilt.reporting import prediction_sections
from kovilt.visualization import (
    AnsweredQuestion,
    Curve,
    Panel,
    ReportTable,
    draw_contact_sheet,
    draw_curves,
    read_metrics,
    write_report,
)
from kovilt.visualization.report import Section, Table


@dataclass(frozen=True)
class QuickstartModel:
    """A fine-tuned model of the quickstart.

    prefix: what the keys of its accuracies begin with in the summary; column: its column in a table; title: its line.
    """

    prefix: str
    column: str
    title: str

    @property
    def accuracy_key(self) -> str:
        return f'{self.prefix or "vqa_"}accuracy'


MODELS = {  # by the folder of the training
    'vqa': QuickstartModel('', 'pre-trained', 'fine-tuned from {encoder} · 사전학습'),
    'vqa_scratch': QuickstartModel('scratch_', 'from scratch', 'as many steps from scratch · 사전학습 없이'),
    'question_only': QuickstartModel('question_only_', 'no image', 'without images · 이미지 없이'),
}


LOSSES = {
    'mlm_loss': 'masked words · 가린 단어 (mlm_loss)',
    'itm_loss': 'matching, 0.69 by guessing · 매칭, 추측은 0.69 (itm_loss)',
    'wpa_loss': 'word-patch alignment · 단어-패치 정렬 (wpa_loss)',
}


def read_summary(work_dir: Path, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The content of `summary.json`; accuracies in percent.

    `seconds`: of each finished step; what other steps would give is left out.
    """
    metrics = {
        name: read_json(work_dir / f'{name}_test' / 'metrics.json')['metrics']
        for name in MODELS
        if f'{name}_test' in seconds
    }
    test = metrics['vqa']
    answer_types = [key.removeprefix('accuracy/') for key in test if key.startswith('accuracy/')]
    summary: dict[str, Any] = {
        **{MODELS[name].accuracy_key: found['accuracy'] for name, found in metrics.items()},
        'majority_accuracy': test['majority_accuracy'],
        'questions': test['questions'],
        'per_type': {
            kind: {
                'questions': test[f'questions/{kind}'],
                **{f'{MODELS[name].prefix}accuracy': found[f'accuracy/{kind}'] for name, found in metrics.items()},
            }
            for kind in answer_types
        },
        'seconds': round(sum(seconds.values()), 1),
        'seconds_per_step': {name: round(value, 1) for name, value in seconds.items()},
    }
    if 'pretrain' in seconds:
        logged = read_metrics(work_dir / 'pretrain')
        summary['pretraining_losses'] = {
            name: [logged[f'train/{name}'][1][i] for i in (0, -1)] for name in PRETRAINING_LOSSES
        }
    if 'alignment' in seconds:
        alignment = read_json(work_dir / 'alignment' / 'alignment.json')
        summary |= {key: alignment[key] for key in ('alignment_accuracy', 'alignment_random', 'alignment_swapped')}
    return summary


def draw_training_curves(work_dir: Path, summary: Mapping[str, Any]) -> None:
    """Write curves.png: of the trainings that the summary knows."""
    finished = [name for name in ('pretrain', *MODELS) if name in summary['seconds_per_step']]
    runs = {name: read_metrics(work_dir / name) for name in finished}

    def curve(label: str, run: str, scalar: str, scale: float = 1.0) -> Curve:
        steps, values = runs.get(run, {}).get(scalar, ((), ()))
        return Curve(label, steps, [scale * value for value in values])

    def pretraining(label: str, scalar: str, scale: float = 1.0) -> Curve:
        return curve(label, 'pretrain', f'train/{scalar}', scale)

    def all_models(scalar: str) -> list[Curve]:
        return [curve(model.column, name, scalar) for name, model in MODELS.items() if name in runs]

    matched = pretraining('matched pairs', 'wpa_matched_distance')
    mismatched = pretraining('mismatched pairs', 'wpa_mismatched_distance')
    accuracies = [
        pretraining('masked tokens', 'mlm_accuracy', 100),
        pretraining('image-text matching', 'itm_accuracy', 100),
    ]
    baseline = {'majority answer': summary['majority_accuracy']}
    panels = [
        Panel('Pre-training: masked tokens', 'L1, nats', [pretraining('masked tokens', 'mlm_loss')]),
        Panel('Pre-training: matching', 'L2, nats', [pretraining('image-text matching', 'itm_loss')]),
        Panel('Pre-training: word-patch alignment', 'transport distance', [matched, mismatched]),
        Panel('Pre-training: accuracy', 'percent', accuracies),
        Panel('Fine-tuning: loss', 'cross-entropy, nats', all_models('train/vqa_loss')),
        Panel('Fine-tuning: validation accuracy', 'percent', all_models('val/accuracy'), baseline),
    ]
    draw_curves(panels, work_dir / 'curves.png')


def draw_predictions(work_dir: Path) -> list[dict[str, Any]]:
    """Write contact_sheet.png with 12 predictions sampled at random, and return them."""
    from kovilt.datasets.image_formats import open_image

    lines = read_json_lines(work_dir / 'vqa_test' / 'predictions.jsonl', 'table')
    predictions = sample_predictions([line for _, line in lines], 12)
    questions = [
        AnsweredQuestion(
            open_image(read_bytes(row['image'], 'image')),
            row['question'],
            row['answer'],
            row['ground_truth'],
            row['score'],
        )
        for row in predictions
    ]
    draw_contact_sheet(questions, work_dir / 'contact_sheet.png')
    return predictions


def sample_predictions(predictions: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Sample without regard to right and wrong: answer types in turn, no image twice while others are left."""
    by_type: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in random.Random(0).sample(predictions, len(predictions)):
        by_type[row['answer_type']].append(row)
    in_turn = [row for rows in by_type.values() for row in rows]
    in_turn.sort(key=lambda row: by_type[row['answer_type']].index(row))
    return different_images(in_turn, count)


def ask_model(model: str, prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the exported model one question with `kovilt predict`; prints the command and its output."""
    image = os.path.relpath(prediction['image'])
    arguments = ['predict', model, image, prediction['question'], '--topk', '3']
    print('$ ' + shlex.join(['kovilt', *arguments]), flush=True)
    done = subprocess.run([sys.executable, *commands.kovilt(*arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KoviltError(f'kovilt predict ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}')
    print(f'{done.stdout.rstrip()}\n  (정답: {prediction["ground_truth"]})\n')
    return {
        'image': image,
        'question': prediction['question'],
        'ground_truth': prediction['ground_truth'],
        'printed': done.stdout.splitlines(),
    }


def summary_tables(summary: Mapping[str, Any], encoder: str) -> dict[str, ReportTable]:
    """The summary as tables, title -> (header, rows). `encoder`: what the fine-tuned model started from, in words.

    What the summary does not hold has no table.
    """
    models = [model for model in MODELS.values() if model.accuracy_key in summary]
    accuracy = [[model.title.format(encoder=encoder), summary[model.accuracy_key]] for model in models]
    by_type = [[answer_type, *row.values()] for answer_type, row in summary['per_type'].items()]
    losses = [[LOSSES[name], *values] for name, values in summary.get('pretraining_losses', {}).items()]
    alignment = {
        'the patch with most of the transport mass of the word · 그 단어의 패치': summary.get('alignment_accuracy'),
        "the patch of the image's other object words · 다른 단어의 패치": summary.get('alignment_swapped'),
        'a random patch · 무작위 패치': summary.get('alignment_random'),
    }
    tables: dict[str, ReportTable] = {
        f'Accuracy on {summary["questions"]:,} validation questions, percent · 정확도': (
            ['', '%'],
            [*accuracy, ['always the most frequent answer · 최빈 답', summary['majority_accuracy']]],
        ),
        'By answer type · 질문 유형별': (['', 'questions', *(model.column for model in models)], by_type),
        f'Pre-training of {encoder}: losses, first and last · 사전학습 손실': (['', 'first', 'last'], losses),
        'Object words whose object is found, percent · 단어-패치 정렬': (
            ['', '%'],
            [[name, value] for name, value in alignment.items() if value is not None],
        ),
    }
    return {title: (header, rows) for title, (header, rows) in tables.items() if rows}


def format_tables(tables: Mapping[str, ReportTable]) -> str:
    """The tables for a terminal; floats with two digits."""
    text = {
        title: (header, [[f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in row] for row in rows])
        for title, (header, rows) in tables.items()
    }
    return '\n\n'.join(f'{title}\n{format_table(header, rows)}' for title, (header, rows) in text.items())


def write_summary_page(
    work_dir: Path, summary: Mapping[str, Any], tables: Mapping[str, ReportTable], footer: str
) -> None:
    """Write report.html: the tables, the images and what the predictions show on one page."""
    images = {
        'Losses and validation accuracy · 손실과 정확도': work_dir / 'curves.png',
        'Validation questions sampled at random · 무작위로 고른 검증 질문': work_dir / 'contact_sheet.png',
    }
    example = work_dir / 'alignment' / 'example.png'
    if 'alignment_accuracy' in summary and example.is_file():
        images['Where the words of a caption send their transport mass · 단어별 정렬'] = example
    predictions = prediction_sections(read_all_predictions(work_dir / 'vqa_test' / 'predictions.jsonl'), {})
    numbered = (work_dir / 'contact_sheet.txt').read_text(encoding='utf-8').splitlines()
    write_report(
        work_dir / 'report.html',
        title='Ko-ViLT on Rooms',
        lead='Synthetic household scenes with Korean questions, answered by models that were trained on them.',
        sections=[*(Section(heading, [Table(*table)]) for heading, table in tables.items()), *predictions],
        images=images,
        sentences=[line.split('. ', 1)[1] for line in numbered],
        footer=footer,
    )
