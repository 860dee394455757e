"""Answering only what a model is sure of: precision and coverage, the risk-coverage curve, thresholds of probability.

El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification (JMLR 2010); Geifman and El-Yaniv,
Selective Classification for Deep Neural Networks (NIPS 2017).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MIN_ANSWERED = 20  # questions above a threshold: the precision of fewer says little
_ROUNDING = 1e-9  # of sums of scores


class RiskCoverage(NamedTuple):
    """What a model does that answers only if its answer has a probability of at least a threshold.

    An entry for each of the K distinct probabilities, highest first: questions of equal probability enter together.
    """

    thresholds: np.ndarray  # (K,): the probability
    answered: np.ndarray  # int (K,): questions whose answer is at least so probable
    precision: np.ndarray  # (K,): mean score of those, 0 to 1; the selective risk is 1 - precision
    questions: int  # all N of them, also those that are never answered

    @property
    def coverage(self) -> np.ndarray:
        """(K,): share of the questions that are answered, 0 to 1."""
        return self.answered / max(1, self.questions)


def risk_coverage(scores: np.ndarray, correct: np.ndarray, *, questions: int | None = None) -> RiskCoverage:
    """The curve of N questions. scores, correct (N,): probability of the answer and its score, 0 to 1.

    Args:
        questions: how many there are, if these are not all; the others are never answered.
    """
    order = np.argsort(-scores, kind='stable')
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))  # of each group of equal probability
    answered = last + 1
    precision = np.cumsum(correct[order], dtype=float)[last] / answered
    return RiskCoverage(ranked[last], answered, precision, len(scores) if questions is None else questions)


def area_under_risk_coverage(curve: RiskCoverage) -> float:
    """AURC, 0 to 1, the lower the better: the mean over the answered questions of the risk at their own probability.

    It is the risk that remains on average while the coverage grows from nothing to all; a model without errors has 0,
    and one whose probabilities say nothing has its share of errors.
    """
    groups = np.diff(curve.answered, prepend=0)  # questions that enter together
    return float((groups * (1 - curve.precision)).sum() / max(1, groups.sum()))


def coverage_at_precision(curve: RiskCoverage, target: float) -> float:
    """The largest share of the questions, 0 to 1, that can be answered with at least this precision; 0 = none."""
    return float(curve.coverage[curve.precision >= target - _ROUNDING].max(initial=0.0))


def choose_threshold(curve: RiskCoverage, target: float, *, minimum: int = MIN_ANSWERED) -> float | None:
    """The lowest threshold of probability at and above which the precision is at least `target`.

    It lies in the middle between the last answer that it lets pass and the next one, so that rounding decides nothing.
    0 = all answers pass; None = no threshold that lets `minimum` questions pass reaches the precision.
    """
    reached = np.flatnonzero((curve.precision >= target - _ROUNDING) & (curve.answered >= minimum))
    if not len(reached):
        return None
    last = int(reached[-1])
    if last + 1 == len(curve.thresholds):
        return 0.0
    return float(curve.thresholds[last] + curve.thresholds[last + 1]) / 2


def best_precision(curve: RiskCoverage, *, minimum: int = MIN_ANSWERED) -> tuple[float, float]:
    """The best precision of a threshold that lets `minimum` questions pass, and its coverage; 0 and 0 = none does."""
    enough = np.flatnonzero(curve.answered >= minimum)
    if not len(enough):
        return 0.0, 0.0
    best = enough[int(np.argmax(curve.precision[enough]))]
    return float(curve.precision[best]), float(curve.coverage[best])
