"""Runs a plan of commands one after the other: progress with time left, a log for each, and no step done twice.

A step is one command of kovilt's own tools, as a user would type it. `<work_dir>/steps/<name>.json` keeps its state: a
step that is done is skipped, one that was interrupted is started again in the folder it left (the tools resume), one
whose command or any step before it has changed is started in an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from kovilt.errors import KoviltError
from kovilt.version import __version__

_COUNT = re.compile(r'(?<![\d.])(\d+)\s*/\s*(\d+)(?![\d.]| \d\d:)')  # not the date before a time: 11/26 03:56:51
# glibc hands large blocks back to the kernel and gets them again, zeroed, at each step: a tenth of a small model's time
KEEP_MEMORY = {'MALLOC_MMAP_THRESHOLD_': str(32 << 20), 'MALLOC_TRIM_THRESHOLD_': str(4 << 30)}
_ETA = re.compile(r'\beta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)')


@dataclass(frozen=True)
class Step:
    """One command of a plan.

    name: its file name in `steps/` and `logs/`; title: what a person reads; command: what follows `python`; folder: all
    it writes, emptied when the step must start anew; seconds: how long it takes on 2 cores; watch: scalars of its log
    to show while it runs.
    """

    name: str
    title: str
    command: Sequence[str]
    folder: Path
    seconds: float
    watch: Sequence[str] = ()


def run_plan(steps: Sequence[Step], work_dir: Path, *, show: TextIO = sys.stdout) -> dict[str, float]:
    """Run the steps in order and return the seconds that each took, those of earlier calls included.

    Raises KoviltError when a step fails: it names the step, the exit code, the step's own error line and its log.
    """
    (work_dir / 'steps').mkdir(parents=True, exist_ok=True)
    (work_dir / 'logs').mkdir(exist_ok=True)
    taken: dict[str, float] = {}
    expected = real = (
        60.0  # of the steps that ran in this call, after a minute at our own speed: how fast is this machine?
    )
    key = __version__
    for number, step in enumerate(steps, 1):
        key = hashlib.sha256('\0'.join([key, *step.command]).encode()).hexdigest()[:16]
        state_file = work_dir / 'steps' / f'{step.name}.json'
        state = json.loads(state_file.read_text(encoding='utf-8')) if state_file.is_file() else {}
        head = f'[{number}/{len(steps)}] {step.title}'
        if state.get('key') != key:
            shutil.rmtree(step.folder, ignore_errors=True)
            state = {'key': key, 'command': shlex.join(['python', *step.command]), 'seconds': 0.0, 'done': False}
        if state['done'] and step.folder.exists():
            taken[step.name] = state['seconds']
            print(f'{head}: done before ({clock(state["seconds"])})', file=show, flush=True)
            continue
        speed = real / expected
        later = speed * sum(other.seconds for other in steps[number:])
        line = StatusLine(head, speed * step.seconds, later, step.watch, show)
        step.folder.mkdir(parents=True, exist_ok=True)
        state['done'] = False
        _write(state_file, state)
        log = work_dir / 'logs' / f'{number:02d}_{step.name}.log'
        start = time.monotonic()
        try:
            code, last_error = _run([sys.executable, *step.command], log, line.read)
        finally:
            state['seconds'] += time.monotonic() - start
            _write(state_file, state)
            line.close()
        if code:
            said = f': {last_error}' if last_error else ''
            raise KoviltError(
                f'step {number} of {len(steps)} ({step.name}) ended with exit code {code}{said}; its log: {log}'
            )
        state['done'] = True
        _write(state_file, state)
        taken[step.name] = state['seconds']
        expected, real = expected + step.seconds, real + time.monotonic() - start
        print(f'{head}: done in {clock(state["seconds"])}', file=show, flush=True)
    return taken


class StatusLine:
    """The line of a running step: share done, time left of the step and of the plan, the scalars that are watched.

    In a terminal the line is drawn over itself; elsewhere (a CI log) a new one is written every 15 s.
    """

    def __init__(self, head: str, expected: float, later: float, watch: Sequence[str], show: TextIO) -> None:
        self.head, self.expected, self.later, self.show = head, expected, later, show
        self.watch = {name: re.compile(rf'\b{re.escape(name)}: (-?\d+\.?\d*)') for name in watch}
        self.values: dict[str, str] = {}
        self.start = self.read_at = time.monotonic()
        self.left: float | None = None
        self.drawn = 0.0
        self.terminal = show.isatty()

    def read(self, line: str) -> None:
        """Take what a line of the step's output (empty: silence) says about progress, and draw when it is time."""
        now = time.monotonic()
        if found := _ETA.search(line):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            self.left, self.read_at = timedelta(days, seconds, 0, 0, minutes, hours).total_seconds(), now
        elif (found := _COUNT.search(line)) and 0 < int(found[1]) <= int(found[2]):
            self.left, self.read_at = (now - self.start) * (int(found[2]) / int(found[1]) - 1), now
        for name, pattern in self.watch.items():
            if found := pattern.search(line):
                self.values[name] = found[1]
        if now - self.drawn >= (0.5 if self.terminal else 15):
            self.drawn = now
            self.draw(now)

    def draw(self, now: float) -> None:
        elapsed = now - self.start
        left = self.expected - elapsed if self.left is None else self.left - (now - self.read_at)
        left = max(left, 1.0)
        watched = '  '.join(f'{name} {value}' for name, value in self.values.items())
        text = (
            f'{self.head}  {100 * elapsed / (elapsed + left):3.0f} %  '
            f'left: {clock(left)}, of everything {clock(left + self.later)}  {watched}'
        )
        if self.terminal:
            text = text[: shutil.get_terminal_size().columns - 8]  # Hangul is two columns wide: leave room
            print(f'\r\x1b[K{text}', end='', file=self.show, flush=True)
        else:
            print(text, file=self.show, flush=True)

    def close(self) -> None:
        if self.terminal:
            print('\r\x1b[K', end='', file=self.show, flush=True)


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, or hours:minutes:seconds from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}' if minutes >= 60 else f'{minutes}:{rest:02d}'


def _run(command: Sequence[str], log: Path, read: Callable[[str], None]) -> tuple[int, str]:
    """Run a command with its output in `log`, each line (also one ended by a carriage return) given to `read`.

    While the command is silent, `read` gets an empty line twice a second. Returns the exit code and the message of the
    last line that began with `error: `.
    """
    environment = {**KEEP_MEMORY, **os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONUTF8': '1', 'HF_HUB_OFFLINE': '1'}
    last_error = ''
    with open(log, 'a', encoding='utf-8') as file:
        print(f'$ {shlex.join(command)}', file=file, flush=True)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
            env=environment,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        try:
            while (line := _next(lines)) is not None:
                file.write(line)
                file.flush()
                if line.startswith('error: '):
                    last_error = line.removeprefix('error: ').strip()
                read(line)
            return process.wait(), last_error
        finally:  # interrupted: its workers go with it
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()


def _pass_on(source: Iterable[str], lines: queue.Queue[str | None]) -> None:
    """Move lines from the command's output to a queue, which unlike a pipe can be waited on for half a second."""
    for line in source:
        lines.put(line)
    lines.put(None)


def _next(lines: queue.Queue[str | None]) -> str | None:
    try:
        return lines.get(timeout=0.5)
    except queue.Empty:
        return ''


def _write(file: Path, state: dict) -> None:
    """Replace the file as a whole: an interruption leaves the old state or the new one."""
    fresh = file.with_suffix('.new')
    fresh.write_text(json.dumps(state, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    fresh.replace(file)
