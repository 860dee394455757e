"""VQA accuracy, as a whole and by groups of questions, beside the accuracy of the majority answer."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from kovilt.datasets.korean import normalize_korean
from kovilt.evaluation.auroc import auroc
from kovilt.evaluation.calibration import expected_calibration_error, reliability_bins
from kovilt.evaluation.scoring import (
    GroundTruth,
    answer_score,
    bootstrap_interval,
    ground_truth_answers,
    groups_by_size,
    most_frequent,
    tolerant_score,
)
from kovilt.evaluation.selective import area_under_risk_coverage, coverage_at_precision, risk_coverage
from kovilt.evaluation.table import format_table
from kovilt.registry import METRICS
from kovilt.unanswerable import is_unanswerable

LENGTH_EDGES = (1, 4, 7, 10)  # words (eojeol) of a question
FREQUENCY_EDGES = (1, 10, 100, 1000)  # number of training rows with an answer
PRECISIONS = (90, 95, 99)  # percent, for which the coverage is given
MAX_TYPES = 10  # answer types in the table of the log
_ANSWERABILITY = 'answerable', 'unanswerable'
MIN_OF_TYPE = 20  # questions of a type that is told to be wrong as a whole


class ScoredQuestion(NamedTuple):
    """A question with its ground truth and its prediction, both normalized."""

    row: int
    image: str
    answer_type: str
    words: int  # of the question, separated by blanks
    answers: list[str] | dict[str, float]  # with their weights
    prediction: str
    broken: bool  # the image cannot be read
    options: int = 0  # of a multiple-choice question
    tied: bool = False  # another option has the probability of the predicted one
    confidence: float = math.nan  # the probability of the prediction; NaN = unknown
    no_answer: float = math.nan  # that of the classes for questions that cannot be answered


@METRICS.register_module()
class VQAAccuracy(BaseMetric):
    """Accuracy of predicted answers, in percent.

    A question with one answer is right if the prediction equals it after `normalize_korean`; one with several
    (`answers`) is scored by the official VQA rule, see `scoring.answer_score`; where answers have weights, the score
    of an answer is its weight. Every question counts once, with any number of processes. A question whose image is
    broken, or whose answer is out of vocabulary (OOV), is wrong. Where a figure needs one answer of several, it takes
    the most frequent, or the one of greatest weight.

    Reads predictions {'record', 'answer', 'score', ...}, where a record has `row`, `answer` or `answers`, and where
    known `image`, `question`, `answer_type` and `broken`; from `dataset_meta` the answer vocabulary `answers` and
    `answer_counts`, the number of training rows with each.

    Returns `accuracy`, its 95 % interval `accuracy_low` to `accuracy_high` (see `scoring.bootstrap_interval`),
    `tolerant_accuracy` (equal up to the spelling of Korean, see docs/en/evaluation.md), the counts `questions` and
    `broken`, and the accuracy of groups, each as `accuracy.../<group>` with `questions.../<group>`:

    - `accuracy/<type>`: by answer type;
    - `accuracy_by_length/<band>`: by the number of words of the question;
    - `accuracy_by_frequency/<band>`: by the number of training rows with the answer, "0" for OOV.

    With a known answer vocabulary also:

    - `coverage`: share of the questions for which some answer of the vocabulary has a score above 0;
    - `ceiling`: the best accuracy that this vocabulary can reach, broken images counted as wrong;
    - `answerable_accuracy`: accuracy over the questions of `coverage` alone;
    - `majority_accuracy`: accuracy of always predicting the most frequent answer of the training rows, broken
      images counted as wrong.

    With known probabilities (`score` of the predictions) also how far they can be trusted, see docs/en/abstention.md:

    - `ece`: the expected calibration error, `expected_calibration_error`;
    - `coverage_at_precision/<90, 95, 99>`: the share of the questions, the surest ones, that can be answered with this
      precision, whatever the vocabulary; 0 = none;
    - `aurc`: the area under the risk-coverage curve, `area_under_risk_coverage`.

    Of multiple-choice questions, whose records have `options`, also:

    - `random_accuracy`: of choosing at random;
    - `circular_accuracy`: by the rule CircularEval (MMBench), that a question counts if it is answered correctly with
      its options in every cyclic order. A kovilt model scores each option by itself, so that orders matter only where
      two options have equal scores, which count as wrong here: no order has to be computed.

    Where questions cannot be answered (`kovilt.unanswerable.is_unanswerable`) and others can, also:

    - `accuracy_by_answerability/answerable` and `.../unanswerable`;
    - `unanswerable_auroc`: how well 1 - the probability of the predicted answer tells the two apart, AUROC from 0 to 1;
    - `unanswerable_class_auroc`: the same of the probability of the class for such questions, if the model has one.

    Args:
        prefix: put before each key with a slash; None = bare keys.
        others: as in MMEngine's BaseMetric.
    """

    default_prefix = ''  # bare keys: of a prefix None MMEngine warns

    @staticmethod
    def metric_names(model: Mapping[str, Any]) -> list[str]:
        """What the evaluation of a config's `model` gives, with `*` for the answer types of the data."""
        lengths = dict.fromkeys(band_of(words, LENGTH_EDGES) for words in range(1, LENGTH_EDGES[-1] + 1))
        frequencies = dict.fromkeys(band_of(rows, FREQUENCY_EDGES) for rows in (0, *FREQUENCY_EDGES))
        groups = ['/*', *(f'_by_length/{band}' for band in lengths), *(f'_by_frequency/{band}' for band in frequencies)]
        groups += [f'_by_answerability/{name}' for name in _ANSWERABILITY]
        whole = ['accuracy', 'accuracy_low', 'accuracy_high', 'tolerant_accuracy', 'coverage', 'ceiling']
        whole += ['answerable_accuracy', 'majority_accuracy', 'questions', 'broken', 'ece', 'aurc']
        whole += [f'coverage_at_precision/{percent}' for percent in PRECISIONS]
        whole += ['unanswerable_auroc', 'unanswerable_class_auroc']
        whole += ['random_accuracy', 'circular_accuracy'] if model.get('choice_head') else []
        return whole + [f'{name}{group}' for group in groups for name in ('accuracy', 'questions')]

    expected = 0  # questions

    def process(self, data_batch: object, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store each prediction as a `ScoredQuestion`."""
        for prediction in data_samples:
            record = prediction['record']
            self.results.append(
                ScoredQuestion(
                    row=int(record['row']),
                    image=str(record.get('image') or record['row']),
                    answer_type=str(record.get('answer_type') or ''),
                    words=len((record.get('question') or '').split()),
                    answers=ground_truth_answers(record),
                    prediction=normalize_korean(prediction['answer']),
                    broken=bool(record.get('broken', False)),
                    options=len(record.get('options') or ()),
                    tied=_is_tied(prediction),
                    confidence=float(prediction.get('score', math.nan)),
                    no_answer=float(prediction.get('unanswerable', math.nan)),
                )
            )

    def evaluate(self, size: int) -> dict[str, float | int]:
        """Questions that a distributed sampler repeats are found by their row; `size` is the number of questions."""
        self.expected = size
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float | int]:
        scored = (ScoredQuestion(*result) for result in reversed(results))  # MMEngine passes plain tuples
        by_row = {question.row: question for question in scored}
        if not by_row or len(by_row) < self.expected:
            raise ValueError(f'{len(by_row)} of {self.expected} questions have a prediction; every question needs one')
        questions = [by_row[row] for row in sorted(by_row)]
        intact = np.array([not question.broken for question in questions])
        scores = intact * np.array([answer_score(question.prediction, question.answers) for question in questions])
        tolerant = intact * np.array([tolerant_score(question.prediction, question.answers) for question in questions])
        low, high = bootstrap_interval(scores, [question.image for question in questions])
        metrics: dict[str, float | int] = {
            'accuracy': _percent(scores),
            'accuracy_low': 100 * low,
            'accuracy_high': 100 * high,
            'tolerant_accuracy': _percent(tolerant),
        }
        vocabulary = self._answer_counts()
        majority = max(vocabulary, key=vocabulary.__getitem__) if any(vocabulary.values()) else None
        reachable = np.array([_best_score(vocabulary, question.answers) for question in questions])
        if vocabulary:
            covered = reachable > 0
            metrics |= {
                'coverage': _percent(covered),
                'ceiling': _percent(reachable * intact),
                'answerable_accuracy': _percent(scores[covered]) if covered.any() else 0.0,
            }
        if majority is not None:
            majority_scores = np.array([answer_score(majority, question.answers) for question in questions])
            metrics['majority_accuracy'] = _percent(majority_scores * intact)
        metrics |= {'questions': len(questions), 'broken': int((~intact).sum())}
        if all(question.options for question in questions):
            untied = np.array([not question.tied for question in questions])
            at_random = np.array([1 / question.options for question in questions])
            metrics |= {'random_accuracy': _percent(at_random), 'circular_accuracy': _percent(scores * untied)}

        confidences = np.array([question.confidence for question in questions])
        if not np.isnan(confidences).any():
            metrics |= _confidence_metrics(confidences, scores)
        types = np.array([question.answer_type for question in questions])
        metrics |= _group_accuracies('', types, scores)
        lengths = [band_of(question.words, LENGTH_EDGES) if question.words else '' for question in questions]
        metrics |= _group_accuracies('_by_length', lengths, scores)
        metrics |= _answerability(questions, scores)
        if majority is not None:
            counts = [vocabulary.get(most_frequent(question.answers), 0) for question in questions]
            metrics |= _group_accuracies('_by_frequency', [band_of(count, FREQUENCY_EDGES) for count in counts], scores)
        warnings = _wholly_wrong(questions, types, scores)
        _log_table(metrics, types, reachable > 0 if vocabulary else None, majority, warnings)
        return metrics

    def _answer_counts(self) -> dict[str, int]:
        """Answer of the vocabulary -> training rows with it, 0 if unknown; empty if the vocabulary is unknown."""
        meta = self.dataset_meta or {}
        answers = [normalize_korean(answer) for answer in meta.get('answers') or ()]
        counts = meta.get('answer_counts') or [0] * len(answers)
        if len(answers) != len(counts):
            raise ValueError(f'{len(answers)} answers but {len(counts)} answer_counts in dataset_meta')
        return dict(zip(answers, counts, strict=True))


def _log_table(
    metrics: dict[str, float | int],
    types: np.ndarray,
    covered: np.ndarray | None,
    majority: str | None,
    warnings: Sequence[str],
) -> None:
    """Log a table of the largest answer types, the figures of the whole, and warnings."""
    header = ['answer type', 'questions', 'accuracy'] + ['coverage'] * (covered is not None)
    rows = []
    names = groups_by_size(types)
    for name in [*names[:MAX_TYPES], '']:
        key, own = (f'/{name}', types == name) if name else ('', slice(None))
        row = [name or 'all', f'{metrics[f"questions{key}"]:,}', f'{metrics[f"accuracy{key}"]:.2f}']
        rows.append(row + ([] if covered is None else [f'{_percent(covered[own]):.2f}']))
    if more := names[MAX_TYPES:]:
        rows.insert(-1, [f'{len(more)} more', *[''] * (len(header) - 1)])
    figures = [f'95 % interval: {metrics["accuracy_low"]:.2f} to {metrics["accuracy_high"]:.2f}']
    figures.append(f'tolerant accuracy: {metrics["tolerant_accuracy"]:.2f}')
    if majority is not None:
        figures.append(f'always predicting {majority!r}: {metrics["majority_accuracy"]:.2f}')
    if 'random_accuracy' in metrics:
        figures.append(f'at random: {metrics["random_accuracy"]:.2f}; CircularEval: {metrics["circular_accuracy"]:.2f}')
    if 'ece' in metrics:
        figures.append(
            f'calibration error (ECE): {metrics["ece"]:.2f}; coverage at 95 % precision: '
            f'{metrics["coverage_at_precision/95"]:.2f}'
        )
    for name in _ANSWERABILITY if 'unanswerable_auroc' in metrics else ():
        figures.append(f'{name} questions: {metrics[f"accuracy_by_answerability/{name}"]:.2f}')
    for key, signal in (('unanswerable_auroc', 'confidence'), ('unanswerable_class_auroc', 'the class')):
        if key in metrics:
            figures.append(f'AUROC of {signal} for these two: {metrics[key]:.3f}')
    if metrics['broken']:
        figures.append(f'{metrics["broken"]:,} questions have a missing or broken image and count as wrong')
    lines = ['VQA accuracy in percent', format_table(header, rows), '; '.join(figures), *warnings]
    MMLogger.get_current_instance().info('\n'.join(lines))


def _answerability(questions: Sequence[ScoredQuestion], scores: np.ndarray) -> dict[str, float | int]:
    """How questions without an answer fare beside the others, and how well the two are told apart."""
    unanswerable = np.array([is_unanswerable(one.answer_type, most_frequent(one.answers)) for one in questions])
    if not unanswerable.any() or unanswerable.all():
        return {}
    metrics = _group_accuracies('_by_answerability', np.array(_ANSWERABILITY)[unanswerable.astype(int)], scores)
    doubt = 1 - np.array([question.confidence for question in questions])
    no_answer = np.array([question.no_answer for question in questions])
    for key, signal in (('unanswerable_auroc', doubt), ('unanswerable_class_auroc', no_answer)):
        if not np.isnan(signal).any():
            metrics[key] = auroc(signal, unanswerable)
    return metrics


def _is_tied(prediction: Mapping[str, Any]) -> bool:
    first, second = [*(guess['score'] for guess in prediction.get('topk') or ()), 0.0, -1.0][:2]
    return first == second


def _wholly_wrong(questions: Sequence[ScoredQuestion], types: np.ndarray, scores: np.ndarray) -> list[str]:
    """A line on each answer type of which no question is right, such as English yes/no answered in Korean."""
    lines = []
    for name in groups_by_size(types):
        own = np.flatnonzero(types == name).tolist()
        if len(own) < MIN_OF_TYPE or scores[own].any() or not scores.any():
            continue
        given = Counter(most_frequent(questions[row].answers) for row in own)
        predicted = Counter(questions[row].prediction for row in own)
        true, wrong = (', '.join(repr(answer) for answer, _ in found.most_common(3)) for found in (given, predicted))
        lines.append(
            f'none of the {len(own):,} questions of type {name!r} is right: {true} expected, {wrong} predicted'
        )
    return lines


def _percent(shares: np.ndarray) -> float:
    return float((100 * shares).mean())


def _confidence_metrics(confidences: np.ndarray, scores: np.ndarray) -> dict[str, float | int]:
    """What the probabilities of the answers are worth, in percent. confidences, scores (N,): 0 to 1."""
    curve = risk_coverage(confidences, scores)
    return {
        'ece': 100 * expected_calibration_error(reliability_bins(confidences, scores)),
        'aurc': 100 * area_under_risk_coverage(curve),
        **{f'coverage_at_precision/{one}': 100 * coverage_at_precision(curve, one / 100) for one in PRECISIONS},
    }


def _best_score(vocabulary: Mapping[str, int], answers: GroundTruth) -> float:
    """The best score that an answer of the vocabulary gets."""
    return max((answer_score(answer, answers) for answer in set(answers) if answer in vocabulary), default=0.0)


def _group_accuracies(suffix: str, groups: Sequence[str] | np.ndarray, scores: np.ndarray) -> dict[str, float | int]:
    """Accuracy and number of questions of each group; `groups` (N,) holds the group of each question."""
    group_of = np.array(groups)
    metrics: dict[str, float | int] = {}
    for name in groups_by_size(group_of):
        own = scores[group_of == name]
        metrics |= {f'accuracy{suffix}/{name}': _percent(own), f'questions{suffix}/{name}': len(own)}
    return metrics


def band_of(value: int, edges: tuple[int, ...]) -> str:
    """The band between two edges that holds `value`: "0" below the first, "1-3", ..., "10+"."""
    index = bisect_right(edges, value)
    if index == 0:
        return '0'
    return f'{edges[-1]}+' if index == len(edges) else f'{edges[index - 1]}-{edges[index] - 1}'
