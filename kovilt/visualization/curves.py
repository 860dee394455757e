"""Reads the scalars that a run wrote and draws them as one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kovilt.errors import KoviltError

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
    """One set of axes. `unit` labels the vertical axis; `levels` are named horizontal lines (a baseline)."""

    title: str
    unit: str
    curves: Sequence[Curve]
    levels: Mapping[str, float] = field(default_factory=dict)


def read_scalars(work_dir: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """All scalars of a run, as name -> (steps, values), from the `scalars.json` of each start of the run.

    MMEngine writes one folder for each start (`<work_dir>/<time>/vis_data/scalars.json`, one JSON object a line). A
    resumed run writes again the steps since its checkpoint: the later start wins. A validation's row counts epochs or
    steps of its own; it is placed at the training step that it follows. A half-written last line is left out.

    Raises KoviltError when the run has written no scalars.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise KoviltError(f'no */vis_data/scalars.json under {work_dir}; is it the work folder of a training run?')
    found: dict[str, dict[int, float]] = {}
    for file in files:
        step = 0
        fresh: dict[str, dict[int, float]] = {}
        lines = file.read_text(encoding='utf-8').splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                if number == len(lines):
                    break
                raise KoviltError(f'{file}, line {number}: not JSON ({error.msg}); remove the line') from error
            if 'iter' in row:
                step = int(row['step'])
            for name, value in row.items():
                if name not in ('step', 'iter', 'epoch') and isinstance(value, int | float):
                    fresh.setdefault(name, {})[step] = float(value)
        for name, points in fresh.items():
            kept = {step: value for step, value in found.get(name, {}).items() if step < min(points)}
            found[name] = kept | points
    return {name: (list(points), list(points.values())) for name, points in found.items()}


def smooth(values: Sequence[float], share: float = 0.03) -> list[float]:
    """Running mean over the last `share` of the values (at least one), so that a noisy loss shows its direction."""
    width = max(1, round(share * len(values)))
    return [sum(values[max(0, i - width + 1) : i + 1]) / min(width, i + 1) for i in range(len(values))]


def draw_curves(panels: Sequence[Panel], out: str | Path, title: str = '') -> Path:
    """Draw the panels, three in a row, into the PNG `out`; returns its path. Empty panels are left out."""
    from matplotlib.figure import Figure  # a Figure of its own: no display, no state shared with the caller's plots

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
            style = {'color': colour, 'linestyle': '--' if curve.dashed else '-'}
            if len(curve.values) > 60:
                axes.plot(curve.steps, curve.values, color=colour, alpha=0.18, linewidth=0.8)
                axes.plot(curve.steps, smooth(curve.values), label=curve.label, linewidth=1.8, **style)
            else:
                axes.plot(curve.steps, curve.values, label=curve.label, linewidth=1.8, marker='.', **style)
        for (name, level), grey in zip(panel.levels.items(), ('0.35', '0.6', '0.75') * len(panel.levels), strict=False):
            axes.axhline(level, color=grey, linestyle=':', linewidth=1.4, label=f'{name} {level:.1f}')
        axes.set_title(panel.title, fontsize=11)
        axes.set_xlabel('optimizer steps')
        axes.set_ylabel(panel.unit)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return Path(out)
