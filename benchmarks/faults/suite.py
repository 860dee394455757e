"""The rows of the suite and how they are tried: each try in a process of its own, a few at a time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults.checks import Failed, Golden, Silent
from benchmarks.faults.processes import adopt_orphans, children
from benchmarks.faults.rig import Try, remove_folder

ROWS: dict[str, Row] = {}


class Row(NamedTuple):
    """A kind of fault."""

    name: str  # in the catalogue: F01
    title: str
    korean: str
    tries: int
    fast: int  # tries in the fast subset
    run: Callable[[Try], None]  # raises Failed or Silent; returns if the try survived


def row(
    name: str, title: str, korean: str, *, tries: int, fast: int
) -> Callable[[Callable[[Try], None]], Callable[[Try], None]]:
    """Add a function to the rows of the suite. Its docstring says what is done and what is due."""

    def add(run: Callable[[Try], None]) -> Callable[[Try], None]:
        ROWS[name] = Row(name, title, korean, tries, fast, run)
        return run

    return add


@dataclass
class Result:
    """What the tries of a row gave."""

    row: Row
    tried: int = 0
    survived: int = 0
    silent: int = 0
    seconds: float = 0.0  # of all tries together
    reasons: list[str] = field(default_factory=list)  # of those that did not survive

    def add(self, found: dict[str, Any]) -> None:
        self.tried += 1
        self.survived += found['verdict'] == 'survived'
        self.silent += found['verdict'] == 'silent'
        self.seconds += found['seconds']
        if found['verdict'] != 'survived':
            self.reasons.append(f'try {found["number"]}: {found["verdict"]}: {found["reason"]}')


def run_rows(
    rows: Iterable[tuple[Row, int]],
    folder: Path,
    golden: dict[str, Golden],
    *,
    jobs: int,
    keep: bool = False,
    remove: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Try each row as often as asked, `jobs` tries at a time; yields a row's result when its last try has ended.

    Args:
        keep: leave the folders of tries that did not survive.
        remove: removes a safeguard of kovilt in each process.
    """
    waiting = [(row, number) for row, tries in rows for number in range(tries)]
    counts = {row.name: sum(other is row for other, _ in waiting) for row, _ in waiting}
    results = {row.name: Result(row) for row, _ in waiting}
    running: dict[int, tuple[Row, int, Path]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            row, number = waiting.pop(0)
            place = folder / f'{row.name}_{number}'
            running[_start_try(Try(row.name, number, place, golden, remove), row)] = row, number, place
        pid, status = os.wait()
        row, number, place = running.pop(pid)
        report = place / 'result.json'
        found = dict(verdict='failed', reason=f'the try ended with status {status}', seconds=0.0, number=number)
        if report.exists():
            found = json.loads(report.read_text('utf-8'))
        results[row.name].add(found)
        if found['verdict'] == 'survived' or not keep:
            remove_folder(place)
        if results[row.name].tried == counts[row.name]:
            yield results[row.name]


def _start_try(attempt: Try, row: Row) -> int:
    """Start one try; it writes its verdict to result.json in its folder. Returns the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        attempt.folder.mkdir(parents=True)
        start = time.monotonic()
        adopt_orphans()
        verdict, reason = judge(row, attempt)
        for orphan in children():
            os.kill(orphan, signal.SIGKILL)
        found = dict(verdict=verdict, reason=reason, seconds=time.monotonic() - start, number=attempt.number)
        (attempt.folder / 'result.json').write_text(json.dumps(found), 'utf-8')
    finally:
        os._exit(0)


def judge(row: Row, attempt: Try) -> tuple[str, str]:
    """The verdict on a try, `survived`, `failed` or `silent`, and the reason."""
    try:
        row.run(attempt)
    except Silent as error:
        return 'silent', str(error)
    except Failed as error:
        return 'failed', str(error)
    except Exception:
        return 'failed', f'the row itself failed: {traceback.format_exc()}'
    return 'survived', ''
