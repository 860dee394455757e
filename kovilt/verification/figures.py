"""Summaries of many numbers for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BARS = 12  # of a histogram, at most


def quantiles(values: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Minimum, median, 99th percentile and maximum; nothing for no values."""
    if not len(values):
        return {}
    low, median, high, top = np.percentile(values, (0, 50, 99, 100)).tolist()
    return {'min': low, 'median': median, 'p99': high, 'max': top}


def histogram(values: Sequence[int] | np.ndarray) -> dict[str, int]:
    """Range of whole numbers, such as '10-19' -> how many values lie in it; all ranges have the same width."""
    if not len(values):
        return {}
    low, top = int(np.min(values)), int(np.max(values))
    width = -(-(top - low + 1) // _BARS)
    counts = np.bincount((np.asarray(values) - low) // width).tolist()
    starts = range(low, top + 1, width)
    return {
        f'{start}-{start + width - 1}' if width > 1 else str(start): count
        for start, count in zip(starts, counts, strict=True)
    }
