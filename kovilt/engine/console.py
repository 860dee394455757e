"""The console of a run: a few lines and, on a terminal, bars that show how far it is. The log file holds everything."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TextIO

import mmengine
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

# What a call of the logger passes on: logger.info(line, extra=FILE_ONLY)
FILE_ONLY = {'console': 'never'}
PROGRESS = {'console': 'without bars'}  # a line that a bar stands for

DRAW_INTERVAL = 0.25  # seconds from one drawing to the next
NUMBERS_INTERVAL = 2.0  # seconds from one reading of the device to the next
_MMENGINE = Path(mmengine.__file__).parent


class RunConsole:
    """Decides what of a run's log reaches the console, and draws bars there if it is a terminal.

    Warnings and errors always reach it. What MMEngine logs in many lines (system information, config, hooks) does not,
    nor do lines marked FILE_ONLY and, while bars are drawn, those marked PROGRESS.

    Args:
        logger: the logger of the run, whose handlers are MMEngine's.
        is_first: whether this is the process that writes to the console, rank 0.

    Attributes:
        draws: whether there are bars. A pipe, a file and a dumb terminal get lines without control characters.
    """

    def __init__(self, logger: logging.Logger, *, is_first: bool) -> None:
        self._handlers = [
            handler
            for handler in logger.handlers
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        ]
        for handler in self._handlers:
            handler.addFilter(self._shows)
        # isatty: rich also trusts FORCE_COLOR
        self.draws = is_first and sys.stdout.isatty() and not Console(file=sys.stdout).is_dumb_terminal
        self._bars: _Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._streams: list[TextIO] = []  # of the handlers, before the bars
        self._drawn = self._read = float('-inf')

    def _shows(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        mark = getattr(record, 'console', None)
        if mark is not None:
            return mark == PROGRESS['console'] and self._bars is None
        file = Path(record.pathname)
        is_own = not file.is_relative_to(_MMENGINE) or file.parent.name == 'logging'  # print_log of ours
        return is_own or '\n' not in record.getMessage()

    def wants_numbers(self) -> bool:
        """Whether it is time to read losses from the device, for which the host waits, and to show them."""
        return self.draws and time.monotonic() - self._read >= NUMBERS_INTERVAL

    def advance(
        self, kind: str, title: str, done: int, total: int, seconds_left: float | None, numbers: str | None = None
    ) -> None:
        """Show how far a loop is; drawn a few times a second at most.

        Args:
            kind: 'train', 'val' or 'test'; each has a bar.
            numbers: the line below the bar; None = as before.
        """
        if not self.draws:
            return
        now = time.monotonic()
        if numbers is not None:
            self._read = now
        elif kind in self._tasks and done < total and now - self._drawn < DRAW_INTERVAL:
            return
        self._drawn = now
        bars = self._bars or self._start()
        if kind not in self._tasks:
            self._tasks[kind] = bars.add_task(title, numbers='', left='')
        left = '' if seconds_left is None else f'{timedelta(seconds=round(seconds_left))} left'
        bars.update(self._tasks[kind], description=title, completed=done, total=total, left=left)
        if numbers is not None:
            bars.update(self._tasks[kind], numbers=numbers)
        bars.refresh()

    def finish(self, kind: str) -> None:
        """Remove the bar of a loop that is over."""
        if self._bars is not None and kind in self._tasks:
            self._bars.remove_task(self._tasks.pop(kind))
            self._bars.refresh()

    def close(self) -> None:
        """Leave the bars as they are, and write below them from now on."""
        if self._bars is not None:
            self._bars.stop()
            for handler, stream in zip(self._handlers, self._streams, strict=True):
                handler.setStream(stream)
            self._bars = None
            self._tasks.clear()

    def _start(self) -> _Bars:
        console = Console(file=sys.stdout)
        columns = (
            TextColumn('{task.description}'),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn('{task.fields[left]}'),
        )
        # Without a thread that draws, the workers of data loaders can be forked safely.
        bars = _Bars(*columns, console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
        bars.start()
        console.show_cursor()  # a run that is killed could not bring it back
        # From here on stdout is rich's, which writes above the bars.
        self._streams = [handler.stream for handler in self._handlers]
        for handler in self._handlers:
            handler.setStream(sys.stdout)
        self._bars = bars
        return bars


class _Bars(Progress):
    """Bars, each with a line of numbers below it."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields['numbers']:
                yield Text(task.fields['numbers'])
