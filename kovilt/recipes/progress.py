"""Shows running steps: a bar each on a terminal, one line every 15 s in a log."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_ETA = re.compile(r'\beta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)')
_COUNT = re.compile(r'(?<![\d.])(\d+)\s*/\s*(\d+)(?![\d.]| \d\d:)')  # not the date before a time: 11/26 03:56:51


class StepProgress:
    """How far a running step is, read from the lines that it prints.

    Args:
        expected: seconds that the step should take; used until it prints an ETA or a count such as 25/100.
        watch: names of the numbers to keep, as in 'vqa_loss: 1.25'.
    """

    def __init__(self, expected: float, watch: Sequence[str] = ()) -> None:
        self.start = time.monotonic()
        self.end = self.start + expected  # estimated, on the monotonic clock
        self.values: dict[str, str] = {}
        self._share = 0.0  # the largest that was shown
        self._is_measured = False  # whether the step has told how long it takes
        self._patterns = {name: re.compile(rf'\b{re.escape(name)}: (-?\d+\.?\d*)') for name in watch}

    def read(self, line: str) -> None:
        for name, pattern in self._patterns.items():
            if found := pattern.search(line):
                self.values[name] = found[1]
        if '(val)' in line:  # [2/2] of a validation, which is a part of the training
            return
        now = time.monotonic()
        if found := _ETA.search(line):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            self.end = now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
            self._is_measured = True
        elif (found := _COUNT.search(line)) and 0 < int(found[1]) <= int(found[2]):
            self.end = self.start + (now - self.start) * int(found[2]) / int(found[1])
            self._is_measured = True

    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def seconds_left(self) -> float:
        """At least one second, as long as the step runs; before it has told its own time, a quarter of the past."""
        return max(self.end - time.monotonic(), 1.0, 0.0 if self._is_measured else self.elapsed() / 4)

    def share(self) -> float:
        """The part that is done, 0 to 1. It never falls, also when the step proves to take longer than expected."""
        self._share = max(self._share, self.elapsed() / (self.elapsed() + self.seconds_left()))
        return self._share

    def describe_values(self) -> list[str]:
        return [f'{name} {value}' for name, value in self.values.items()]


class StepsDisplay:
    """Prints lines and, below them on a terminal, a bar for each running step.

    Used as a context manager. Where `output` is no terminal, the bars become one line every `LOG_INTERVAL` seconds and
    no control character is written.
    """

    LOG_INTERVAL = 15.0

    def __init__(self, output: TextIO, total: int) -> None:
        self.output, self.total = output, total
        self.logged = time.monotonic()
        self.live: Live | None = None
        console = Console(file=output)
        if output.isatty() and not console.is_dumb_terminal:  # isatty: rich also trusts FORCE_COLOR
            self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> StepsDisplay:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def print(self, line: str) -> None:
        if self.live is None:
            print(line, file=self.output, flush=True)
        else:
            self.live.console.print(Text(line))

    def update(self, running: Mapping[str, StepProgress], finished: int, later: float) -> None:
        """Show the running steps by title. `later`: seconds of the steps that have not started, one after another."""
        left = (sum(progress.seconds_left() for progress in running.values()) + later) / max(1, len(running))
        if self.live is not None:
            self.live.update(self._bars(running, finished, left), refresh=True)
        elif time.monotonic() - self.logged >= self.LOG_INTERVAL and running:
            self.logged = time.monotonic()
            parts = [f'{title} {progress.share():.0%}' for title, progress in running.items()]
            if len(running) == 1:
                (progress,) = running.values()
                parts += [f'{format_duration(progress.seconds_left())} left', *progress.describe_values()]
            self.print(f'{", ".join(parts)}; everything: {format_duration(left)} left')

    def _bars(self, running: Mapping[str, StepProgress], finished: int, left: float) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for title, progress in running.items():
            share = progress.share()
            time_left = f'{format_duration(progress.seconds_left())} left'
            bar = ProgressBar(total=1.0, completed=share, width=20)
            table.add_row(Text(title), bar, f'{share:.0%}', time_left, Text('  '.join(progress.describe_values())))
        summary = f'{finished} of {self.total} steps finished'
        table.add_row(Text(summary), '', '', f'{format_duration(left)} left')
        return table


def format_duration(seconds: float) -> str:
    """Seconds as minutes:seconds, or as hours:minutes:seconds from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}' if minutes >= 60 else f'{minutes}:{rest:02d}'
