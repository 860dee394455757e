"""The part of a report that is about answers: groups of questions, calibration, confusions, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kovilt.evaluation.breakdown import (
    GroupAccuracy,
    Prediction,
    by_answer_frequency,
    by_answer_type,
    by_question_length,
    find_confusions,
    pick_examples,
)
from kovilt.reporting.calibration import calibration_blocks
from kovilt.reporting.images import thumbnail_of
from kovilt.visualization.report import Bar, Block, Card, Cards, Paragraph, Section, Table

EXAMPLES = {
    'best': 'Right and surest · 가장 확신한 정답',
    'worst': 'Wrong and surest · 가장 확신한 오답',
    'random': 'At random · 무작위',
}


def prediction_sections(
    predictions: Sequence[Prediction], answer_counts: Mapping[str, int], calibration: Mapping[str, Any] | None = None
) -> list[Section]:
    """What a file of predictions shows.

    Args:
        answer_counts: answer -> training rows with it; empty if unknown.
        calibration: of metrics.json, if there is one.
    """
    return [
        Section('Groups of questions · 질문 묶음별', _group_blocks(predictions, answer_counts)),
        Section('Calibration · 확률 보정', calibration_blocks(predictions, calibration)),
        Section('Confused answers · 혼동한 답', _confusion_blocks(predictions)),
        Section('Predictions · 예측', _example_blocks(predictions)),
    ]


def _group_blocks(predictions: Sequence[Prediction], answer_counts: Mapping[str, int]) -> list[Block]:
    groups = {
        'answer type · 질문 유형': by_answer_type(predictions),
        'words of the question · 질문의 어절 수': by_question_length(predictions),
    }
    if answer_counts:
        groups['training rows with the answer, 0 = OOV · 학습 데이터의 정답 빈도'] = by_answer_frequency(
            predictions, answer_counts
        )
    return [group_table(name, found) for name, found in groups.items() if found]


def group_table(name: str, groups: Sequence[GroupAccuracy]) -> Table:
    rows = [[one.name, f'{one.questions:,}', Bar(one.accuracy, one.low, one.high)] for one in groups]
    return Table([name, 'questions', '% (95 % interval)'], rows)


def _confusion_blocks(predictions: Sequence[Prediction]) -> list[Block]:
    found = find_confusions(predictions)
    if not found:
        return [Paragraph('No answer was confused with another.')]
    rows = [[one.ground_truth, one.answer, f'{one.times:,}', one.example['question']] for one in found]
    header = ['correct · 정답', 'answered · 답', 'times', 'surest example · 예']
    examples = [prediction_card(one.example) for one in found[:8]]
    return [Table(header, rows, texts=(0, 1, 3)), Cards(examples, 'The surest example of the first rows · 예')]


def _example_blocks(predictions: Sequence[Prediction]) -> list[Block]:
    return [
        Cards([prediction_card(one) for one in examples], f'{EXAMPLES[name]} ({len(examples)})')
        for name, examples in pick_examples(predictions).items()
        if examples
    ]


def prediction_card(prediction: Prediction) -> Card:
    """A prediction with its image, question, answer, the correct answer, and the three most probable answers."""
    is_right = prediction['correct'] > 0
    topk = [one for one in prediction.get('topk') or () if isinstance(one, Mapping)][:3]
    lines = [
        ('질문', prediction['question']),
        ('답', f'{"O" if is_right else "X"}  {prediction["answer"]} ({prediction["score"]:.0%})'),
        ('정답', ', '.join(dict.fromkeys(prediction.get('answers') or [prediction['ground_truth']]))),
        ('top 3', ', '.join(f'{one.get("answer")} {float(one.get("score") or 0):.0%}' for one in topk)),
    ]
    image = thumbnail_of(prediction['image'])
    if not image:
        lines.append(('이미지', f'cannot be read: {prediction["image"]}'))
    return Card(lines, image, is_right)
