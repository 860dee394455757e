"""Accuracy of answers, as a whole and in parts, beside what is reached without looking."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from kovilt.datasets.korean import normalize_korean
from kovilt.evaluation.scoring import (
    answer_score,
    bootstrap_interval,
    largest_first,
    most_frequent,
    record_answers,
    tolerant_score,
)
from kovilt.evaluation.table import format_table
from kovilt.registry import METRICS

LENGTH_EDGES = (1, 4, 7, 10)  # words of a question
FREQUENCY_EDGES = (1, 10, 100, 1000)  # how often training saw an answer


class ScoredQuestion(NamedTuple):
    """A question of the set and what the model made of it; texts are normalised, `words` counts its blanks + 1."""

    row: int
    image: str
    answer_type: str
    words: int
    truths: list[str]
    answer: str
    broken: bool


@METRICS.register_module()
class VQAAccuracy(BaseMetric):
    """What the answers to a question set are worth, in percent.

    A question with one human answer is right when the model gives exactly that after `normalize_korean`; one with
    several (`answers`) is scored by the official VQA rule, see `scoring.answer_score`. Every question of the set counts
    once, also under several processes; one whose image is broken, or whose truth is not among the model's answers,
    counts as wrong. Where one answer must stand for several, it is the most frequent.

    Reads predictions {'record', 'answer', ...} (record: row, answer or answers, and where known image, question,
    answer_type, and broken when the image is) and, from `dataset_meta`, the model's `answers` with how often training
    saw each (`answer_counts`).

    Returns percentages `accuracy`, its 95 % interval `accuracy_low`, `accuracy_high` (images redrawn, see
    `scoring.bootstrap_interval`), `tolerant_accuracy` (ways of writing Korean forgiven, see docs/evaluation.md), the
    counts `questions` and `broken`, and parts of the set, each as `accuracy.../<part>` with `questions.../<part>`:

    - `accuracy/<type>`: by answer type;
    - `accuracy_by_length/<band>`: by the words of the question;
    - `accuracy_by_frequency/<band>`: by how often training saw the true answer, "0" when it is none of the model's.

    When the model's answers are known:

    - `coverage`: questions for which one of the model's answers is worth anything;
    - `ceiling`: the best accuracy this model could reach, the broken images counted as wrong;
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
        """Keeps an `ScoredQuestion` of each prediction."""
        for prediction in data_samples:
            record = prediction['record']
            self.results.append(
                ScoredQuestion(
                    row=int(record['row']),
                    image=str(record.get('image') or record['row']),
                    answer_type=str(record.get('answer_type') or ''),
                    words=len((record.get('question') or '').split()),
                    truths=record_answers(record),
                    answer=normalize_korean(prediction['answer']),
                    broken=bool(record.get('broken', False)),
                )
            )

    def evaluate(self, size: int) -> dict:
        """`size` is how many questions the set has. Repeated ones are told by their row here, not cut off by number."""
        self.expected = size
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float | int]:
        answered = (ScoredQuestion(*result) for result in reversed(results))  # MMEngine hands on plain tuples
        by_row = {question.row: question for question in answered}
        if not by_row or len(by_row) < self.expected:
            raise ValueError(f'{len(by_row)} of {self.expected} questions were answered; every one must be, once')
        questions = [by_row[row] for row in sorted(by_row)]
        sound = np.array([not question.broken for question in questions])
        scores = sound * np.array([answer_score(question.answer, question.truths) for question in questions])
        tolerant = sound * np.array([tolerant_score(question.answer, question.truths) for question in questions])
        low, high = bootstrap_interval(scores, [question.image for question in questions])
        metrics: dict[str, float | int] = {
            'accuracy': _percent(scores),
            'accuracy_low': 100 * low,
            'accuracy_high': 100 * high,
            'tolerant_accuracy': _percent(tolerant),
        }
        known = self._training_answers()
        majority = max(known, key=known.get) if any(known.values()) else None
        reachable = np.array([_best_score(known, question.truths) for question in questions])
        if known:
            covered = reachable > 0
            metrics |= {
                'coverage': _percent(covered),
                'ceiling': _percent(reachable * sound),
                'answerable_accuracy': _percent(scores[covered]) if covered.any() else 0.0,
            }
        if majority is not None:
            always = np.array([answer_score(majority, question.truths) for question in questions])
            metrics['majority_accuracy'] = _percent(always)
        metrics |= {'questions': len(questions), 'broken': int((~sound).sum())}

        metrics |= _parts('', [question.answer_type for question in questions], scores)
        lengths = [_band(question.words, LENGTH_EDGES) if question.words else '' for question in questions]
        metrics |= _parts('_by_length', lengths, scores)
        if majority is not None:
            seen = [known.get(most_frequent(question.truths), 0) for question in questions]
            metrics |= _parts('_by_frequency', [_band(count, FREQUENCY_EDGES) for count in seen], scores)
        self._report(metrics, questions, reachable if known else None, majority)
        return metrics

    def _report(
        self,
        metrics: dict[str, float | int],
        questions: list[ScoredQuestion],
        reachable: np.ndarray | None,
        majority: str | None,
    ) -> None:
        """Logs a table of the answer types, and a line a figure of the whole."""
        types = np.array([question.answer_type for question in questions])
        header = ['answer type', 'questions', 'accuracy'] + ['coverage'] * (reachable is not None)
        rows = []
        for name in [*largest_first(types), '']:
            key, own = (f'/{name}', types == name) if name else ('', slice(None))
            row = [name or 'all', f'{metrics[f"questions{key}"]:,}', f'{metrics[f"accuracy{key}"]:.2f}']
            rows.append(row + ([] if reachable is None else [f'{_percent(reachable[own] > 0):.2f}']))
        lines = [
            'VQA accuracy in percent',
            format_table(header, rows),
            f'95 % interval: {metrics["accuracy_low"]:.2f} to {metrics["accuracy_high"]:.2f}; '
            f'ways of writing forgiven: {metrics["tolerant_accuracy"]:.2f}',
        ]
        if majority is not None:
            lines.append(f'always answering {majority!r}: {metrics["majority_accuracy"]:.2f}')
        if metrics['broken']:
            lines.append(f'{metrics["broken"]:,} questions have a missing or broken image and count as wrong')
        MMLogger.get_current_instance().info('\n'.join(lines))

    def _training_answers(self) -> dict[str, int]:
        """The model's answers with how often training saw each, 0 when that is unknown; empty when they are."""
        meta = self.dataset_meta or {}
        answers = [normalize_korean(answer) for answer in meta.get('answers') or ()]
        counts = meta.get('answer_counts') or [0] * len(answers)
        if len(answers) != len(counts):
            raise ValueError(f'{len(answers)} answers but {len(counts)} answer_counts in dataset_meta')
        return dict(zip(answers, counts, strict=True))


def _percent(shares: np.ndarray) -> float:
    return float((100 * shares).mean())


def _best_score(answers: Mapping[str, int], truths: list[str]) -> float:
    """The most that one of `answers` would get."""
    return max((answer_score(answer, truths) for answer in set(truths) if answer in answers), default=0.0)


def _parts(division: str, names: list[str], scores: np.ndarray) -> dict[str, float | int]:
    """Accuracy and number of questions of each part of a division; `names` (N,) says whose part each question is."""
    places = np.array(names)
    metrics: dict[str, float | int] = {}
    for name in largest_first(places):
        own = scores[places == name]
        metrics |= {f'accuracy{division}/{name}': _percent(own), f'questions{division}/{name}': len(own)}
    return metrics


def _band(value: int, edges: tuple[int, ...]) -> str:
    """The band between two edges that holds `value`: "0" below the first, "1-3", ..., "10+"."""
    place = bisect_right(edges, value)
    if place == 0:
        return '0'
    return f'{edges[-1]}+' if place == len(edges) else f'{edges[place - 1]}-{edges[place] - 1}'
