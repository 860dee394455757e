"""Reads the metrics that a run has logged and draws them as curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kovilt.errors import KoviltError
from kovilt.files import atomic_path, read_json_lines

COLOURS = ('#1f77b4', '#d95f02', '#1b9e77', '#7570b3', '#666666', '#e7298a')


@dataclass(frozen=True)
class Curve:
    """One line of a panel: optimizer steps against values."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes. unit: label of the vertical axis; levels: named horizontal lines, such as a baseline."""

    title: str
    unit: str
    curves: Sequence[Curve]
    levels: Mapping[str, float] = field(default_factory=dict)


def read_metrics(work_dir: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """The metrics in a run's `metrics.jsonl`, as 'train/<name>' or 'val/<name>' -> (optimizer steps, values).

    A half-written last line, which a killed run leaves, is ignored. A metric that was NaN or infinite is NaN.

    Raises:
        KoviltError: no such file, or a line that is not a record of metrics.
    """
    file = Path(work_dir) / 'metrics.jsonl'
    if not file.is_file():
        raise KoviltError(f'{file}: no such file; is {work_dir} the work folder of a training run?')
    found: dict[str, tuple[list[int], list[float]]] = {}
    for number, row in read_json_lines(file, 'table', cut_off=True):
        if not isinstance(row.get('step'), int) or 'mode' not in row:
            raise KoviltError(f'{file}, line {number}: no record of metrics with a mode and a step; remove the line')
        if row['mode'] not in ('train', 'val'):
            continue
        for name, value in row.items():
            if name not in ('mode', 'step', 'epoch', 'time') and isinstance(value, int | float | None):
                steps, values = found.setdefault(f'{row["mode"]}/{name}', ([], []))
                steps.append(row['step'])
                values.append(math.nan if value is None else value)
    return found


def smooth(values: Sequence[float], share: float = 0.03) -> list[float]:
    """Running mean over a window of `share` of the values (at least one), to show the trend of a noisy loss."""
    width = max(1, round(share * len(values)))
    return [sum(values[max(0, i - width + 1) : i + 1]) / min(width, i + 1) for i in range(len(values))]


def draw_curves(panels: Sequence[Panel], out: str | Path, title: str = '') -> Path:
    """Draw the panels, three in a row, into the PNG file `out`; returns its path. Empty panels are left out."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state shared with the caller's plots

    panels = [panel for panel in panels if any(len(curve.steps) for curve in panel.curves)]
    if not panels:
        raise KoviltError(f'nothing to draw into {out}: the runs have logged no values')
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * rows + 0.4), dpi=110, layout='constrained')
    figure.suptitle(title, fontsize=12)
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        for colour, curve in zip(COLOURS * len(panel.curves), panel.curves, strict=False):
            style = '--' if curve.dashed else '-'
            if len(curve.values) > 60:
                axes.plot(curve.steps, curve.values, color=colour, alpha=0.18, linewidth=0.8)
                axes.plot(curve.steps, smooth(curve.values), style, color=colour, label=curve.label, linewidth=1.8)
            else:
                axes.plot(curve.steps, curve.values, f'.{style}', color=colour, label=curve.label, linewidth=1.8)
        for (name, level), grey in zip(panel.levels.items(), ('0.35', '0.6', '0.75') * len(panel.levels), strict=False):
            axes.axhline(level, color=grey, linestyle=':', linewidth=1.4, label=f'{name} {level:.1f}')
        axes.set_title(panel.title, fontsize=11)
        axes.set_xlabel('optimizer steps')
        axes.set_ylabel(panel.unit)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    with atomic_path(out) as draft:
        figure.savefig(draft, format='png')
    return Path(out)
