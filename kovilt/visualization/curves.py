"""Reads the metrics that a run has logged and draws them as curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kovilt.errors import KoviltError
from kovilt.files import atomic_path, read_json_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def write_curves_csv(work_dir: str | Path, out: str | Path) -> Path:
    """Write the "train" and "val" rows of a run's `metrics.jsonl` as a table, a column a number; returns its path.

    The file begins with a byte order mark, by which spreadsheets know UTF-8.
    """
    rows = [row for _, row in read_json_lines(Path(work_dir) / 'metrics.jsonl', 'table', cut_off=True)]
    rows = [row for row in rows if row.get('mode') in ('train', 'val')]
    names = dict.fromkeys(name for row in rows for name in row)
    first = ('mode', 'step', 'epoch')
    with atomic_path(out) as draft, open(draft, 'w', encoding='utf-8-sig', newline='') as file:
        table = csv.DictWriter(file, [*first, *(name for name in names if name not in first)])
        table.writeheader()
        table.writerows(rows)
    return Path(out)


def run_panels(runs: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]) -> list[Panel]:
    """The panels of some runs, name -> what `read_metrics` returns; the name of a single run may be ''.

    A panel a loss, then one of the accuracies, one of the learning rates and one for each other number. The numbers of
    groups of questions ('accuracy/색') are left out.
    """
    names = {key.partition('/')[2] for metrics in runs.values() for key in metrics}
    names -= {name for name in names if '/' in name and not name.startswith('lr/')}
    losses = sorted(name for name in names if name.endswith('loss'))
    accuracies = sorted(name for name in names if name.endswith('accuracy') and name.partition('_')[0] not in _DERIVED)
    rates = sorted(name for name in names if name.startswith('lr/'))
    others = sorted(name for name in names if name.endswith(('distance', 'grad_norm')))
    if len(losses) == 2 and 'loss' in losses:  # a single objective
        losses.remove('loss')

    def curves(some: Sequence[str], label: bool) -> list[Curve]:
        return [
            Curve(
                ' '.join(filter(None, (run, '' if name.startswith('lr/') else split, name if label else ''))),
                metrics[f'{split}/{name}'][0],
                [percent_scale(split, name) * value for value in metrics[f'{split}/{name}'][1]],
                dashed=split == 'val',
            )
            for run, metrics in runs.items()
            for name in some
            for split in ('train', 'val')
            if f'{split}/{name}' in metrics
        ]

    units = {name: 'weighted distance' if name.startswith('wpa') else 'nats' for name in losses}
    panels = [Panel(name, unit, curves([name], False)) for name, unit in units.items()]
    levels = {
        name: metrics[f'val/{key}'][1][-1]
        for metrics in list(runs.values())[:1]
        for name, key in (('majority', 'majority_accuracy'), ('at random', 'random_accuracy'), ('ceiling', 'ceiling'))
        if f'val/{key}' in metrics
    }
    panels.append(Panel('accuracy', 'percent', curves(accuracies, len(accuracies) > 1), levels))
    panels += [Panel(name.replace('_', ' '), '', curves([name], False)) for name in others]
    panels.append(Panel('learning rate', '', curves(rates[:4], True)))
    return [panel for panel in panels if panel.curves]


_DERIVED = ('majority', 'tolerant', 'answerable', 'circular', 'random')  # accuracies that stand in the tables


def percent_scale(split: str, name: str) -> float:
    """What to multiply a number of the record with, so that accuracies are in percent: in training they are shares."""
    return 100.0 if split == 'train' and name.endswith('accuracy') else 1.0


def smooth(values: Sequence[float], share: float = 0.03) -> list[float]:
    """Running mean over a window of `share` of the values (at least one), to show the trend of a noisy loss."""
    width, count = max(1, round(share * len(values))), len(values)
    # No running sum: a single NaN would be in all sums after it.
    sums = np.convolve(np.asarray(values, dtype=float), np.ones(width))[:count]
    means: list[float] = (sums / np.minimum(width, np.arange(1, count + 1))).tolist()
    return means


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
        _draw_panel(figure.add_subplot(rows, columns, place), panel)
    with atomic_path(out) as draft:
        figure.savefig(draft, format='png')
    return Path(out)


def draw_panel(panel: Panel) -> bytes:
    """A panel alone, as the content of a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.1), dpi=140, layout='constrained')
    _draw_panel(figure.add_subplot(), panel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()


def describe_panel(panel: Panel) -> str:
    """The title of a panel with the first and the last value of each curve, for those who do not see it."""
    ends = [
        f'{curve.label or panel.title} {curve.values[0]:.4g} at step {curve.steps[0]:,}, '
        f'{curve.values[-1]:.4g} at step {curve.steps[-1]:,}'
        for curve in panel.curves
        if len(curve.values)
    ]
    return f'{panel.title}: {"; ".join(ends)}'


def _draw_panel(axes: Axes, panel: Panel) -> None:
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
