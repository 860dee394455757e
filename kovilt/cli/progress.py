"""Shows how far a long task has come: a bar on a terminal, plain lines in a log or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ReportProgress = Callable[[int, int], None]  # (done, total)


@contextmanager
def progress_bar(task: str, unit: str = 'images') -> Iterator[ReportProgress]:
    """A function to be called with (done, total) as the task advances.

    On a terminal it draws a bar on stderr. Elsewhere it writes a line every tenth of the total, without any control
    characters. The rate and the time left are counted from the latest call with done = 0.
    """
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:  # isatty: rich also trusts FORCE_COLOR
        yield _log_progress(task, unit)
        return
    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    # Without a thread that refreshes the bar, worker processes can be forked safely.
    with Progress(*columns, console=console, auto_refresh=False) as bar:
        bar_task = bar.add_task(task, total=None)
        drawn = 0.0

        def draw(done: int, total: int) -> None:
            nonlocal drawn
            if done == 0:
                bar.reset(bar_task, total=total)
            bar.update(bar_task, completed=done, total=total)
            if done in (0, total) or time.monotonic() - drawn > 0.1:
                drawn = time.monotonic()
                bar.refresh()
            if done == total:
                bar.stop()  # another bar may follow

        yield draw


def _log_progress(task: str, unit: str) -> ReportProgress:
    start, last_tenth = time.monotonic(), 0

    def write(done: int, total: int) -> None:
        nonlocal start, last_tenth
        if done == 0:
            start, last_tenth = time.monotonic(), 0
            return
        tenth = 10 * done // total
        if tenth == last_tenth:
            return
        last_tenth = tenth
        rate = done / max(time.monotonic() - start, 1e-9)
        print(
            f'{task} {done}/{total}, {rate:.0f} {unit}/s, {(total - done) / rate:.0f} s left',
            file=sys.stderr,
            flush=True,
        )

    return write
