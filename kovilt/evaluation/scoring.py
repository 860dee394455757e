"""Scores of predicted answers, confidence intervals and McNemar's test, as functions on strings and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kovilt.datasets.answers import vqa_score
from kovilt.datasets.korean import normalize_korean
from kovilt.evaluation.tolerant import tolerant_form

GroundTruth = Sequence[str] | Mapping[str, float]  # an answer of each person, or the weight of each answer
_RESAMPLES_AT_ONCE = 10  # bounds the memory of a bootstrap: each resample holds a number for every image


def ground_truth_answers(record: Mapping[str, Any]) -> list[str] | dict[str, float]:
    """The normalized answers of a record: its `answers` where several people answered, else its one `answer`.

    Where its answers have weights, the weight of each.
    """
    if weights := record.get('answer_weights'):
        return dict(zip(map(normalize_korean, record['answers']), weights, strict=True))
    return [normalize_korean(answer) for answer in record.get('answers') or [record['answer']]]


def most_frequent(answers: GroundTruth) -> str:
    """The answer that most people gave, or the one of greatest weight; the first of several such."""
    if isinstance(answers, Mapping):
        return max(answers, key=answers.__getitem__)
    return max(answers, key=answers.count)


def answer_score(prediction: str, answers: GroundTruth) -> float:
    """The score, 0 to 1, of a prediction against the ground-truth answers: its weight where they have weights, else by
    the official VQA rule, see `vqa_score`.

    Strings are compared as they are, so that the score against a single answer is exact match. The official script
    also rewrites English numbers, articles and punctuation, which would damage Korean.
    """
    if isinstance(answers, Mapping):
        return answers.get(prediction, 0.0)
    return float(vqa_score(answers.count(prediction), len(answers)))


def tolerant_score(prediction: str, answers: GroundTruth) -> float:
    """As `answer_score`, but strings are equal if their `tolerant_form` is; their weights add up, at most to 1."""
    if isinstance(answers, Mapping):
        form = tolerant_form(prediction)
        return min(sum(weight for answer, weight in answers.items() if tolerant_form(answer) == form), 1.0)
    return answer_score(tolerant_form(prediction), [tolerant_form(answer) for answer in answers])


def is_lower_better(metric: str) -> bool:
    """Whether the smaller of two values of a metric is the better one: of losses, of `ece` and `aurc`, and of the
    distance between the words and the patches of matched pairs. That of mismatched pairs is to be large.
    """
    is_error = metric.rpartition('/')[2] in ('ece', 'aurc')
    return is_error or 'loss' in metric or metric.endswith('_matched_distance')


def groups_by_size(groups: np.ndarray) -> list[str]:
    """The distinct names in `groups` (N,), which holds the group of each question; largest group first, "" left out."""
    names, counts = np.unique(groups, return_counts=True)
    return [str(name) for _, name in sorted(zip(-counts, names, strict=True)) if name]


def bootstrap_interval(
    values: np.ndarray, images: Sequence | np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean of `values` (N,), one value a question.

    Images are resampled, each with all its questions, since questions about one image are not independent; resampling
    single questions would give too narrow an interval. `images` (N,) holds the image of each question. The differences
    between the scores of two models on the same questions give a paired interval.
    """
    from scipy.stats import bootstrap  # takes half a second to import

    _, image = np.unique(images, return_inverse=True)
    totals, counts = np.bincount(image, weights=values), np.bincount(image)  # each (images,)
    if len(counts) == 1:  # a single image cannot be resampled
        mean = float(totals[0] / counts[0])
        return mean, mean
    interval = bootstrap(
        (totals, counts),
        lambda totals, counts, axis: totals.sum(axis) / counts.sum(axis),
        paired=True,
        method='percentile',
        n_resamples=resamples,
        batch=_RESAMPLES_AT_ONCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """The two-sided p of McNemar's exact test, for the numbers of questions that only one of two models has right.

    It is the probability of a difference at least this large if both models were equally good.
    """
    from scipy.stats import binomtest

    total = only_a + only_b
    return float(binomtest(only_a, total).pvalue) if total else 1.0
