"""AUROC: how well a number tells two kinds of samples apart, such as questions with and without an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(signal: np.ndarray, positive: np.ndarray) -> float:
    """The area under the ROC curve: the probability that a positive has the larger signal; ties count half.

    0.5 = the signal tells nothing.

    Args:
        signal: float (N,), larger for what should be found.
        positive: bool (N,), what should be found.

    Raises:
        ValueError: one of the two kinds is missing, or a signal is not a number.
    """
    return _weighted_auroc(_levels(signal, positive), positive, np.ones(len(signal)))


def auroc_interval(
    signal: np.ndarray, positive: np.ndarray, groups: Sequence | np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of `auroc`.

    Whole groups are resampled, since samples of one group are not independent: `groups` (N,) holds the image of each
    question, or the photograph of each crop. Groups of positive samples alone, of others alone, and of both are each
    resampled among themselves.
    """
    levels = _levels(signal, positive)
    _, group = np.unique(groups, return_inverse=True)
    kind = 2 * (np.bincount(group, positive) > 0) + (np.bincount(group, ~positive) > 0)  # (groups,)
    parts, rng = [np.flatnonzero(kind == one) for one in np.unique(kind)], np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(part, len(part)) for part in parts])
        weights = np.bincount(drawn, minlength=len(kind))[group]
        found.append(_weighted_auroc(levels, positive, weights))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _levels(signal: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The rank of each signal among the distinct ones, int (N,)."""
    if not positive.any() or positive.all():
        raise ValueError('an AUROC needs samples of both kinds')
    if np.isnan(signal).any():
        raise ValueError('a signal is not a number')
    return np.unique(signal, return_inverse=True)[1]


def _weighted_auroc(levels: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    found, others = (np.bincount(levels, weights * own, int(levels.max()) + 1) for own in (positive, ~positive))
    below = others.cumsum() - others
    return float(found @ (below + others / 2) / (found.sum() * others.sum()))
