"""What an answer is worth, and how sure a share of right answers is: functions on strings and arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kovilt.datasets.answers import agreement
from kovilt.datasets.korean import normalize_korean
from kovilt.evaluation.tolerant import tolerant_form


def record_answers(record: Mapping[str, Any]) -> list[str]:
    """The normalised answers that people gave: `answers` where a set has several, else the one `answer`."""
    return [normalize_korean(answer) for answer in record.get('answers') or [record['answer']]]


def most_frequent(answers: Sequence[str]) -> str:
    """The answer that most people gave; the first of several such."""
    return max(answers, key=answers.count)


def answer_score(answer: str, truths: Sequence[str]) -> float:
    """What `answer` is worth, 0 to 1, where people answered `truths`: the official rule, see `agreement`.

    Strings are equal or not; with one truth that is exact match. The official script also rewrites English numbers,
    articles and punctuation, which would damage Korean; nothing is rewritten here.
    """
    return float(agreement(truths.count(answer), len(truths)))


def tolerant_score(answer: str, truths: Sequence[str]) -> float:
    """As `answer_score`, where strings are equal when their `tolerant_form` is."""
    return answer_score(tolerant_form(answer), [tolerant_form(truth) for truth in truths])


def largest_first(parts: np.ndarray) -> list[str]:
    """The names of the parts of a question set, the largest first; `parts` (N,) holds each question's, "" for none."""
    distinct, counts = np.unique(parts, return_counts=True)
    return [str(name) for _, name in sorted(zip(-counts, distinct, strict=True)) if name]


def bootstrap_interval(
    values: np.ndarray, images: Sequence | np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` (N,), one a question, when other images had been drawn.

    Whole images are redrawn with replacement, each with all its questions (`images` (N,) names them): questions on
    one image are not independent, and redrawing them singly would give too narrow an interval. For two models on
    the same questions give the differences of their scores, which makes it a paired interval.
    """
    _, number = np.unique(images, return_inverse=True)
    totals, counts = np.bincount(number, weights=values), np.bincount(number)  # each (images,)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(counts), size=len(counts)) for _ in range(resamples))
    low, high = np.percentile([totals[draw].sum() / counts[draw].sum() for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def mcnemar(only_a: int, only_b: int) -> float:
    """p of McNemar's exact test: how likely so uneven a split of the questions that one of two models alone has right
    would be if both were as good. Two-sided, binomial.
    """
    total, fewer = only_a + only_b, min(only_a, only_b)
    chosen = np.arange(1, fewer + 1)
    # logarithms, as the binomials of thousands of questions exceed a float; C(n, k) / C(n, k - 1) = (n - k + 1) / k
    ways = np.concatenate([[0.0], np.cumsum(np.log((total - chosen + 1) / chosen))])
    return min(1.0, 2 * math.exp(np.logaddexp.reduce(ways) - total * math.log(2)))
