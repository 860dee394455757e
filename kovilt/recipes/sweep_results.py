"""What a sweep found: the settings ranked by a metric, with intervals, as a table, a page and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from kovilt.errors import KoviltError
from kovilt.evaluation.table import format_table
from kovilt.files import read_json_lines, write_json
from kovilt.recipes.search_space import Setting, describe, short_keys
from kovilt.visualization.report import write_page


class Metric(NamedTuple):
    """What runs are ranked by. takes_best: the best of a run's validations counts, not its last."""

    name: str
    is_lower_better: bool
    takes_best: bool


@dataclass(frozen=True)
class Run:
    """A training of a sweep.

    value, low, high: the metric and its 95 % interval over the questions, where the evaluation gives one; None = none.
    step: of that validation. error: why there is no value.
    """

    seed: int
    folder: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    step: int | None = None
    error: str = ''


@dataclass(frozen=True)
class Outcome:
    """A setting with its runs, one a seed."""

    setting: Setting
    runs: list[Run]

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs if run.value is not None]

    @property
    def is_complete(self) -> bool:
        return len(self.values) == len(self.runs)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval over the questions, of several seeds the means of its ends."""
        ends = [(run.low, run.high) for run in self.runs if run.low is not None and run.high is not None]
        if not ends:
            return None
        lows, highs = zip(*ends, strict=True)
        return statistics.fmean(lows), statistics.fmean(highs)


def read_run(seed: int, folder: Path, metric: Metric) -> Run:
    """Read the record of a finished run.

    Raises:
        KoviltError: the record is gone or damaged, or holds no value of the metric.
    """
    lines = [line for _, line in read_json_lines(folder / 'metrics.jsonl', 'JSON')]
    found = [line for line in lines if line.get('mode') == 'val' and isinstance(line.get(metric.name), (int, float))]
    if not found:
        raise KoviltError(f'{folder / "metrics.jsonl"}: no validation gave {metric.name}')
    sign = -1 if metric.is_lower_better else 1
    line = max(found, key=lambda line: sign * line[metric.name]) if metric.takes_best else found[-1]
    low, high = (line.get(f'{metric.name}_{end}') for end in ('low', 'high'))
    return Run(seed, folder.name, line[metric.name], low, high, line.get('step'))


def rank(outcomes: Iterable[Outcome], metric: Metric) -> list[Outcome]:
    """The best first; those without a value last."""
    sign = 1 if metric.is_lower_better else -1
    return sorted(outcomes, key=lambda outcome: (outcome.mean is None, sign * (outcome.mean or 0.0)))


def write_results(outcomes: Iterable[Outcome], work_dir: Path, metric: Metric, config: str) -> list[Outcome]:
    """Write sweep.html and result.json, and return the outcomes, ranked."""
    ranked = rank(outcomes, metric)
    write_json(
        work_dir / 'result.json',
        {
            'config': config,
            'metric': metric._asdict(),
            'settings': [
                {
                    'setting': dict(outcome.setting),
                    'mean': outcome.mean,
                    'interval': outcome.interval,
                    'spread': outcome.spread,
                    'runs': [asdict(run) for run in outcome.runs],
                }
                for outcome in ranked
            ],
        },
    )
    ends = [end for outcome in ranked for end in (outcome.interval or ([] if outcome.mean is None else [outcome.mean]))]
    write_page(
        work_dir / 'sweep.html',
        'sweep.html.j2',
        title=f'Sweep of {config}',
        metric=metric,
        header=_header(ranked, metric),
        rows=_rows(ranked),
        outcomes=ranked,
        describe=describe,
        low=min(ends, default=0.0),
        high=max(ends, default=0.0),
        reports={path.parent.name for path in work_dir.glob('runs/*/report.html')},
    )
    return ranked


def result_lines(outcomes: list[Outcome], metric: Metric, work_dir: Path) -> list[str]:
    """The ranked table and where to read more."""
    table = format_table(_header(outcomes, metric), _rows(outcomes)).split('\n')
    return ['', *table, '', f'  {work_dir / "sweep.html"}']


def _header(outcomes: list[Outcome], metric: Metric) -> list[str]:
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.setting))
    return ['rank', *short_keys(keys).values(), metric.name, '95 % interval', 'over seeds']


def _rows(outcomes: list[Outcome]) -> list[list[str]]:
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.setting))
    rows = []
    for place, outcome in enumerate(outcomes, 1):
        mean, interval, spread = outcome.mean, outcome.interval, outcome.spread
        done, due = len(outcome.values), len(outcome.runs)
        seeds = '' if spread is None else f'sd {spread:.2g}, n {done}'
        if done < due:
            seeds = f'{due - done} of {due} missing'
        rows.append([
            '' if mean is None else f'{place}',
            *(outcome.setting.get(key, '') for key in keys),
            '' if mean is None else f'{mean:.4g}',
            '' if interval is None else f'{interval[0]:.2f} to {interval[1]:.2f}',
            seeds,
        ])  # fmt: skip
    return rows
