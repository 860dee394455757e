"""Draws a reliability diagram: the probability of answers against how often they are right."""

from __future__ import annotations

import io
from collections.abc import Sequence

BLUE, GREY = '#0072b2', '#777777'  # of Okabe and Ito's colours, which all kinds of sight tell apart


def draw_reliability(bins: Sequence[tuple[float, float, int, float, float]], ece: float) -> bytes:
    """An SVG image of the bins (low, high, questions, confidence, accuracy), with the counts below.

    The dashed line is a model whose probabilities are right. Labels are Latin text, which every machine can draw.
    """
    from matplotlib import rc_context
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
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    buffer = io.BytesIO()
    with rc_context({'svg.hashsalt': 'kovilt'}):  # the same image, the same bytes
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()
