"""The expected growth of cost that benchmarks/scaling.py fits to its measurements, with its tables and plots."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory import MB
from benchmarks.report import markdown_table


@dataclass(frozen=True)
class Point:
    """One size of a sweep.

    Attributes:
        size: what the sweep varies.
        flops: that time should grow with; of data, its rows.
        states: that memory should grow with; of data, its rows.
        run: the work to measure.
        prepare: runs once before memory is measured, in the same process.
    """

    size: int
    flops: float
    states: float
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Law:
    """cost = fixed + price * amount, with the smallest relative errors; the fixed cost is never negative."""

    fixed: float
    price: float

    @classmethod
    def fit(cls, amounts: Sequence[float], costs: Sequence[float]) -> Law:
        import numpy as np

        x, y = np.asarray(amounts, float), np.asarray(costs, float)
        fixed, price = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
        if fixed < 0:
            fixed, price = 0.0, (x / y).sum() / ((x / y) ** 2).sum()
        return cls(float(fixed), float(price))

    def __call__(self, amount: float) -> float:
        return self.fixed + self.price * amount


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep with their seconds and bytes, measured and by the laws."""

    label: str
    points: Sequence[Point]
    seconds: Sequence[float]
    bytes: Sequence[float]
    time_law: Law
    memory_law: Law

    def columns(self) -> tuple[Sequence[float], ...]:
        """Seconds, seconds by the law, bytes, bytes by the law."""
        return (
            self.seconds,
            [self.time_law(point.flops) for point in self.points],
            self.bytes,
            [self.memory_law(point.states) for point in self.points],
        )

    def power(self, values: Sequence[float]) -> float:
        """The power of the size with which values grow: the slope on logarithmic axes."""
        return statistics.linear_regression(
            [math.log(point.size) for point in self.points], [math.log(value) for value in values]
        ).slope

    def table(self) -> str:
        """The measurements beside the laws, and the power with which all four columns grow."""
        columns = self.columns()
        rows = [
            [
                f'{point.size:,}',
                *(f'{v * unit:,.0f}' for v, unit in zip(values, (1e3, 1e3, 1 / MB, 1 / MB), strict=True)),
            ]
            for point, *values in zip(self.points, *columns, strict=True)
        ]
        rows.append(['grows with the power', *(f'{self.power(column):.2f}' for column in columns)])
        return markdown_table([self.label, 'ms', 'by the law', 'MB', 'by the law'], rows)


def plot_sweeps(sweeps: Sequence[Sweep], file: Path, title: str) -> None:
    """Plot time (top) and memory (bottom) on logarithmic axes: points are measured, lines are the laws."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(sweeps), figsize=(3 * len(sweeps), 5.6), squeeze=False, layout='constrained')
    for column, sweep in enumerate(sweeps):
        sizes = [point.size for point in sweep.points]
        columns = sweep.columns()
        for row, (name, unit, factor) in enumerate((('time', 'ms', 1e3), ('memory', 'MB', 1 / MB))):
            measured, expected = columns[2 * row : 2 * row + 2]
            axis = axes[row, column]
            axis.loglog(sizes, [value * factor for value in expected], color='0.6', label='law')
            axis.loglog(sizes, [value * factor for value in measured], 'o', color='C0', label='measured')
            axis.set_xticks(sizes, [f'{size:,}' for size in sizes], rotation=45)
            axis.minorticks_off()
            axis.set_xlabel(sweep.label)
            axis.set_ylabel(f'{name}, {unit}')
            powers = f'power {sweep.power(measured):.2f}, law {sweep.power(expected):.2f}'
            axis.text(0.05, 0.9, powers, transform=axis.transAxes)
    axes[0, 0].legend(loc='lower right')
    figure.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)
