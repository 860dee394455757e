"""Accuracy of answers, by answer type, beside what is reached without looking."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from kovilt.datasets.korean import normalize_korean
from kovilt.registry import METRICS

from .table import format_table


@METRICS.register_module()
class VQAAccuracy(BaseMetric):
    """Share of questions answered with exactly the true answer, in percent.

    An answer is right when it equals the truth after `normalize_korean`; nothing is forgiven beyond that. Every
    question of the set counts once, also under several processes; one whose picture is broken, or whose truth is not
    among the model's answers, counts as wrong.

    Reads predictions {'record', 'answer', ...} (record: row, answer, answer_type, and broken when the picture is) and,
    from `dataset_meta`, the model's `answers` with how often training saw each (`answer_counts`).

    Returns percentages `accuracy` and `accuracy/<type>`, the counts `questions`, `questions/<type>` and `broken`, and,
    when the model's answers are known:

    - `coverage`: questions whose truth is among the model's answers;
    - `ceiling`: those of them whose picture is sound, the best accuracy this model could reach;
    - `answerable_accuracy`: accuracy over the questions of `coverage` alone;
    - `majority_accuracy`: what always giving training's most frequent answer would reach.

    Args:
        prefix: put before each key with a slash; none by default.
        collect_device, collect_dir: as in MMEngine's BaseMetric.
    """

    def __init__(
        self, *, prefix: str | None = None, collect_device: str = 'cpu', collect_dir: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix or 'vqa', collect_dir=collect_dir)
        self.prefix = prefix  # BaseMetric warns when it is given none, and bare keys are meant here
        self.expected = 0

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keeps (row, type, truth, answer, broken) of each prediction."""
        for prediction in data_samples:
            record = prediction['record']
            self.results.append(
                (
                    int(record['row']),
                    str(record.get('answer_type') or ''),
                    normalize_korean(record['answer']),
                    normalize_korean(prediction['answer']),
                    bool(record.get('broken', False)),
                )
            )

    def evaluate(self, size: int) -> dict:
        """`size` is how many questions the set has. Repeated ones are told by their row here, not cut off by number."""
        self.expected = size
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[tuple[int, str, str, str, bool]]) -> dict[str, float | int]:
        questions = {row: rest for row, *rest in reversed(results)}
        if not questions or len(questions) < self.expected:
            raise ValueError(f'{len(questions)} of {self.expected} questions were answered; every one must be, once')

        right, totals, covered = defaultdict(int), defaultdict(int), defaultdict(int)
        answers, majority = self._training_answers()
        sound = majority_right = broken = 0
        for kind, truth, answer, is_broken in questions.values():
            for group in {'', kind}:  # '' holds all questions
                totals[group] += 1
                right[group] += answer == truth and not is_broken
                covered[group] += truth in answers
            broken += is_broken
            sound += truth in answers and not is_broken
            majority_right += truth == majority

        n = totals['']
        kinds = sorted((kind for kind in totals if kind), key=lambda kind: (-totals[kind], kind))
        metrics: dict[str, float | int] = {'accuracy': 100 * right[''] / n}
        if answers:
            metrics |= {
                'coverage': 100 * covered[''] / n,
                'ceiling': 100 * sound / n,
                'answerable_accuracy': 100 * right[''] / max(covered[''], 1),
            }
        if majority is not None:
            metrics['majority_accuracy'] = 100 * majority_right / n
        metrics |= {'questions': n, 'broken': broken}
        for kind in kinds:
            metrics |= {f'accuracy/{kind}': 100 * right[kind] / totals[kind], f'questions/{kind}': totals[kind]}

        header = ['answer type', 'questions', 'accuracy'] + ['coverage'] * bool(answers)
        rows = [
            [kind or 'all', f'{totals[kind]:,}', f'{100 * right[kind] / totals[kind]:.2f}']
            + [f'{100 * covered[kind] / totals[kind]:.2f}'] * bool(answers)
            for kind in [*kinds, '']
        ]
        lines = ['VQA accuracy in percent', format_table(header, rows)]
        if majority is not None:
            lines.append(f'always answering {majority!r}: {metrics["majority_accuracy"]:.2f}')
        if broken:
            lines.append(f'{broken:,} questions have a missing or broken picture and count as wrong')
        MMLogger.get_current_instance().info('\n'.join(lines))
        return metrics

    def _training_answers(self) -> tuple[set[str], str | None]:
        """The model's answers and, of these, the one most frequent in training; (empty, None) when unknown."""
        meta = self.dataset_meta or {}
        answers = [normalize_korean(answer) for answer in meta.get('answers') or ()]
        counts = meta.get('answer_counts') or ()
        if not answers or not counts:
            return set(answers), None
        if len(answers) != len(counts):
            raise ValueError(f'{len(answers)} answers but {len(counts)} answer_counts in dataset_meta')
        return set(answers), max(zip(counts, answers, strict=True), key=lambda pair: pair[0])[1]
