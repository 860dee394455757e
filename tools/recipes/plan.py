"""Runs a plan of commands: progress with time left, a log for each, and no step done twice.

A step is one command of kovilt's own tools, as a user would type it. `<work_dir>/steps/<name>.json` keeps its state: a
step that is done is skipped, one that was interrupted is started again in the folder it left (the tools resume), one
whose command, or that of a step it builds on, has changed is started in an empty folder. Steps run in their order or,
several at once, as soon as what they build on is done.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
    to show while it runs; after: names of the steps before it whose files it reads, None = of all.
    """

    name: str
    title: str
    command: Sequence[str]
    folder: Path
    seconds: float
    watch: Sequence[str] = ()
    after: Sequence[str] | None = None


def run_plan(steps: Sequence[Step], work_dir: Path, *, jobs: int = 1, show: TextIO = sys.stdout) -> dict[str, float]:
    """Run the steps and return the seconds that each took, those of earlier calls included.

    With one job they run in their order up to the first that fails. With several, up to `jobs` run at once, and when
    one fails all that do not build on it are run first.

    Raises KoviltError when a step fails: it names the step, the exit code, the step's own error line and its log.
    """
    (work_dir / 'steps').mkdir(parents=True, exist_ok=True)
    (work_dir / 'logs').mkdir(exist_ok=True)
    keys = step_keys(steps)
    tasks = [_Task(step, number, len(steps), keys[step.name], work_dir) for number, step in enumerate(steps, 1)]
    if jobs > 1:
        return _run_beside(tasks, jobs, show)
    taken: dict[str, float] = {}
    expected = real = (
        60.0  # of the steps that ran in this call, after a minute at our own speed: how fast is this machine?
    )
    for task in tasks:
        step, state = task.step, task.state
        if task.is_done():
            taken[step.name] = state['seconds']
            print(f'{task.head}: done before ({clock(state["seconds"])})', file=show, flush=True)
            continue
        speed = real / expected
        later = speed * sum(other.seconds for other in steps[task.number :])
        line = StatusLine(task.head, speed * step.seconds, later, step.watch, show)
        start = time.monotonic()
        try:
            failure = task.run(line.read)
        finally:
            line.close()
        if failure:
            raise KoviltError(failure)
        taken[step.name] = state['seconds']
        expected, real = expected + step.seconds, real + time.monotonic() - start
        print(f'{task.head}: done in {clock(state["seconds"])}', file=show, flush=True)
    return taken


def finished_steps(steps: Sequence[Step], work_dir: Path) -> dict[str, float]:
    """The steps of a plan that are done, with the seconds that each took; runs and changes nothing."""
    keys, found = step_keys(steps), {}
    for step in steps:
        state = _read(work_dir / 'steps' / f'{step.name}.json')
        if state.get('key') == keys[step.name] and state['done'] and step.folder.exists():
            found[step.name] = state['seconds']
    return found


def step_keys(steps: Sequence[Step]) -> dict[str, str]:
    """What each step's result depends on, as text: its command, those of the steps it builds on, kovilt's version."""
    keys: dict[str, str] = {}
    everything = __version__
    for step in steps:
        before = [everything] if step.after is None else [__version__, *(keys[name] for name in step.after)]
        keys[step.name] = _digest(*before, *step.command)
        everything = _digest(everything, *step.command)
    return keys


def _digest(*parts: str) -> str:
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


class _Task:
    """A step in its place of a plan, with its state on the disk."""

    def __init__(self, step: Step, number: int, total: int, key: str, work_dir: Path) -> None:
        self.step, self.number, self.total = step, number, total
        self.head = f'[{number}/{total}] {step.title}'
        self.log = work_dir / 'logs' / f'{number:02d}_{step.name}.log'
        self.file = work_dir / 'steps' / f'{step.name}.json'
        command = shlex.join(['python', *step.command])
        self.state = {'key': key, 'command': command, 'seconds': 0.0, 'done': False}
        found = _read(self.file)
        self.fresh = found.get('key') != key  # its folder holds nothing, or what another command has left
        if not self.fresh:
            self.state = found

    def is_done(self) -> bool:
        return self.state['done'] and self.step.folder.exists()

    def run(self, read: Callable[[str], None]) -> str:
        """Run the command with each line of its output given to `read`; returns what went wrong, or nothing."""
        if self.fresh:
            shutil.rmtree(self.step.folder, ignore_errors=True)
            self.fresh = False
        self.step.folder.mkdir(parents=True, exist_ok=True)
        self.state['done'] = False
        _write(self.file, self.state)
        start = time.monotonic()
        try:
            code, last_error = _run([sys.executable, *self.step.command], self.log, read)
            self.state['done'] = not code
        finally:
            self.state['seconds'] += time.monotonic() - start
            _write(self.file, self.state)
        if not code:
            return ''
        said = f': {last_error}' if last_error else ''
        return (
            f'step {self.number} of {self.total} ({self.step.name}) ended with exit code {code}{said}; '
            f'its log: {self.log}'
        )


def _run_beside(tasks: Sequence[_Task], jobs: int, show: TextIO) -> dict[str, float]:
    """The steps, up to `jobs` at once; of those that can start, that from which most work hangs."""
    stop = threading.Event()
    hanging = _work_behind([task.step for task in tasks])
    waiting = sorted(tasks, key=lambda task: -hanging[task.step.name])
    before: dict[str, set[str]] = {}
    for place, task in enumerate(tasks):
        names = task.step.after
        before[task.step.name] = {other.step.name for other in tasks[:place]} if names is None else set(names)
    taken: dict[str, float] = {}
    failures: list[str] = []
    running: dict[Future, tuple[_Task, StatusLine]] = {}
    drawn = time.monotonic()

    def perform(task: _Task, line: StatusLine) -> str:
        def read(text: str) -> None:
            if stop.is_set():
                raise InterruptedError(task.step.name)  # which ends its process
            line.read(text)

        return task.run(read)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                for task in [task for task in waiting if before[task.step.name] <= taken.keys()]:
                    if task.is_done():
                        taken[task.step.name] = task.state['seconds']
                        print(f'{task.head}: done before ({clock(taken[task.step.name])})', file=show, flush=True)
                    elif len(running) < jobs:
                        line = _Share(task.head, task.step.seconds, 0, (), show)
                        running[pool.submit(perform, task, line)] = task, line
                    else:
                        continue
                    waiting.remove(task)
                if not running:
                    if any(before[task.step.name] <= taken.keys() for task in waiting):
                        continue  # those that were done before have set others free
                    break
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    task, _ = running.pop(future)
                    if failure := future.result():
                        failures.append(failure)
                        print(f'{task.head}: FAILED', file=show, flush=True)
                        continue
                    taken[task.step.name] = task.state['seconds']
                    print(f'{task.head}: done in {clock(taken[task.step.name])}', file=show, flush=True)
                if running and time.monotonic() - drawn > 15:
                    drawn = time.monotonic()
                    lines = sorted(running.values(), key=lambda pair: pair[0].number)
                    shares = ', '.join(f'{task.step.name} {line.share(drawn):.0%}' for task, line in lines)
                    print(f'{len(taken)} of {len(tasks)} done, running: {shares}', file=show, flush=True)
        except BaseException:
            stop.set()
            raise
    if failures:
        more = f' ({len(failures) - 1} more failed)' if len(failures) > 1 else ''
        raise KoviltError(f'{failures[0]}{more}')
    return taken


def _work_behind(steps: Sequence[Step]) -> Mapping[str, float]:
    """For each step the seconds of the longest chain of steps that begins with it."""
    chain = {step.name: step.seconds for step in steps}
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        for name in [other.name for other in steps[:place]] if step.after is None else step.after:
            earlier = next(other for other in steps if other.name == name)
            chain[name] = max(chain[name], earlier.seconds + chain[step.name])
    return chain


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

    def times(self, now: float) -> tuple[float, float]:
        """Seconds since the step began, and those that it still needs."""
        elapsed = now - self.start
        left = self.expected - elapsed if self.left is None else self.left - (now - self.read_at)
        return elapsed, max(left, 1.0)

    def draw(self, now: float) -> None:
        elapsed, left = self.times(now)
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


class _Share(StatusLine):
    """Knows how far a step is and draws nothing: one of several that run at once."""

    def share(self, now: float) -> float:
        elapsed, left = self.times(now)
        return elapsed / (elapsed + left)

    def draw(self, now: float) -> None:
        pass


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


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}


def _write(file: Path, state: dict) -> None:
    """Replace the file as a whole: an interruption leaves the old state or the new one."""
    fresh = file.with_suffix('.new')
    fresh.write_text(json.dumps(state, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    fresh.replace(file)
