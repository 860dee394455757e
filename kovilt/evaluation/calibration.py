"""Does a model know how sure it may be? Its probabilities beside the accuracy that they were followed by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_BINS = 15  # of equal width, as in Guo et al., On Calibration of Modern Neural Networks (ICML 2017)


class ReliabilityBin(NamedTuple):
    """The questions whose answer has a probability above `low` and up to `high`; shares from 0 to 1."""

    low: float
    high: float
    questions: int
    confidence: float  # mean probability
    accuracy: float


def reliability_bins(scores: np.ndarray, correct: np.ndarray, *, bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """The bins that hold questions. scores, correct (N,): probability of the answer and its score, 0 to 1."""
    number = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    return [
        ReliabilityBin(
            one / bins, (one + 1) / bins, int(own.sum()), float(scores[own].mean()), float(correct[own].mean())
        )
        for one in range(bins)
        if (own := number == one).any()
    ]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """ECE: the mean distance between confidence and accuracy, weighted by the questions of each bin; 0 to 1."""
    total = sum(one.questions for one in bins)
    return sum(one.questions * abs(one.accuracy - one.confidence) for one in bins) / max(1, total)
