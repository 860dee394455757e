"""Draws what the probabilities of answers are worth: a reliability diagram and a risk-coverage curve."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY = '#0072b2', '#777777'  # of Okabe and Ito's colours, which all kinds of sight tell apart


def draw_reliability(bins: Sequence[tuple[float, float, int, float, float]], ece: float) -> bytes:
    """An SVG image of the bins (low, high, questions, confidence, accuracy), with the counts below.

    The dashed line is a model whose probabilities are right. Labels are Latin text, which every machine can draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout='constrained')
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    left, width = [one[0] for one in bins], [one[1] - one[0] for one in bins]
    above.bar(left, [one[4] for one in bins], width, align='edge', color=BLUE, alpha=0.55, edgecolor='white')
    above.plot([one[3] for one in bins], [one[4] for one in bins], 'o-', color=BLUE, markersize=4, linewidth=1)
    above.plot([0, 1], [0, 1], '--', color=GREY, linewidth=1)
    above.set(ylabel='accuracy', xlim=(0, 1), ylim=(0, 1), title=f'expected calibration error {100 * ece:.1f} %')
    below.bar(left, [one[2] for one in bins], width, align='edge', color=GREY, alpha=0.6, edgecolor='white')
    below.set(xlabel='probability of the answer', ylabel='questions')
    return _finish(figure, (above, below))


def draw_risk_coverage(coverage: Sequence[float], risk: Sequence[float], aurc: float, error: float) -> bytes:
    """An SVG image of the risk-coverage curve: the share of wrong answers among the surest questions.

    Args:
        coverage, risk: points of the curve, shares from 0 to 1.
        aurc: the area under it.
        error: the risk of answering all, which is the dashed line of probabilities that say nothing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.6), layout='constrained')
    axes = figure.subplots()
    axes.plot(coverage, risk, '-', color=BLUE, linewidth=1.6)
    axes.fill_between(coverage, risk, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot([0, 1], [error, error], '--', color=GREY, linewidth=1)
    axes.set(xlabel='coverage: share of questions that are answered', ylabel='risk: share of wrong answers')
    axes.set(xlim=(0, 1), ylim=(0, None), title=f'area under the risk-coverage curve {100 * aurc:.2f} %')
    return _finish(figure, (axes,))


def _finish(figure: Figure, parts: Sequence[Axes]) -> bytes:
    """The content of an SVG file; the same figure, the same bytes."""
    from matplotlib import rc_context

    for axes in parts:
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    buffer = io.BytesIO()
    with rc_context({'svg.hashsalt': 'kovilt'}):
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()
