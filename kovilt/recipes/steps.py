"""Runs commands as resumable steps, several at once, each with a log of its own.

A step is one command, as a user would type it. `<work_dir>/steps/<name>.json` records its state:
a finished step is skipped; an interrupted one runs again in the folder that it left, where it resumes; one whose
command, or that of a step it depends on, has changed runs again in an empty folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from kovilt.errors import KoviltError
from kovilt.files import read_json, write_json
from kovilt.recipes.progress import StepProgress, StepsDisplay, format_duration
from kovilt.version import __version__

# By default glibc returns large blocks to the kernel and gets them again, zeroed, at each optimizer step. That takes a
# tenth of a small model's time.
MALLOC_SETTINGS = {'MALLOC_MMAP_THRESHOLD_': str(32 << 20), 'MALLOC_TRIM_THRESHOLD_': str(4 << 30)}


@dataclass(frozen=True)
class Step:
    """One command and what it depends on.

    Args:
        name: the stem of its files in `steps/` and `logs/`.
        title: what a person reads.
        command: what follows `python`.
        folder: everything that it writes; emptied before the step runs anew.
        seconds: how long it takes on 2 cores.
        watch: numbers of its log to show while it runs, such as 'vqa_loss'.
        after: names of the earlier steps whose files it reads; None = all earlier steps.
        key: what its result depends on, beside earlier steps; '' = its command and kovilt's version.
    """

    name: str
    title: str
    command: Sequence[str]
    folder: Path
    seconds: float
    watch: Sequence[str] = ()
    after: Sequence[str] | None = None
    key: str = ''


class StepFailure(KoviltError):
    """Steps have failed; `failures` tells what went wrong, by the name of each."""

    def __init__(self, message: str, failures: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.failures = failures


def run_steps(
    steps: Sequence[Step], work_dir: Path, *, jobs: int = 1, output: TextIO | None = None
) -> dict[str, float]:
    """Run up to `jobs` steps at once and return the seconds that each took, interrupted attempts included.

    A step starts when all steps that it depends on are finished. After a failure the steps that do not depend on the
    failed one still run. An exception, such as Ctrl-C, ends the running commands. Progress goes to `output` (stdout).

    Raises:
        StepFailure: a step failed; the message has its name, exit code, own error line and log.
    """
    runs = _make_runs(steps, work_dir)
    needed = _dependencies(steps)
    chains = _longest_chains(steps)
    # Several at once: first the step that the longest chain of steps waits for.
    waiting = sorted(runs, key=lambda run: -chains[run.step.name]) if jobs > 1 else list(runs)
    running: dict[Future[str], _StepRun] = {}
    seconds: dict[str, float] = {}
    failures: dict[str, str] = {}
    expected = measured = 60.0  # seconds of the steps that ran, after a minute at the speed of 2 cores

    with StepsDisplay(output or sys.stdout, len(runs)) as display, ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                for run in list(waiting):
                    if not needed[run.step.name] <= seconds.keys():
                        continue
                    if run.is_finished():
                        seconds[run.step.name] = run.seconds
                        display.print(f'{run.title}: finished before ({format_duration(run.seconds)})')
                    elif len(running) < jobs:
                        run.progress = StepProgress(run.step.seconds * measured / expected, run.step.watch)
                        running[pool.submit(run.execute)] = run
                    else:
                        continue
                    waiting.remove(run)
                if not running:
                    break
                for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    if failure := future.result():
                        failures[run.step.name] = failure
                        display.print(f'{run.title}: FAILED')
                    else:
                        seconds[run.step.name] = run.seconds
                        expected, measured = expected + run.step.seconds, measured + run.progress.elapsed()
                        display.print(f'{run.title}: finished in {format_duration(run.seconds)}')
                later = sum(run.step.seconds for run in waiting) * measured / expected
                shown = {run.title: run.progress for run in sorted(running.values(), key=lambda run: run.number)}
                display.update(shown, len(seconds), later)
        except BaseException:
            for run in runs:
                run.stop()
            raise
    if failures:
        first, *others = failures.values()
        raise StepFailure(f'{first} ({len(others)} more failed)' if others else first, failures)
    return seconds


def finished_steps(steps: Sequence[Step], work_dir: Path) -> dict[str, float]:
    """The finished steps with the seconds that each took; runs and changes nothing."""
    return {run.step.name: run.seconds for run in _make_runs(steps, work_dir) if run.is_finished()}


def _dependencies(steps: Sequence[Step]) -> dict[str, set[str]]:
    """For each step the names of the steps that must be finished before it starts."""
    names = [step.name for step in steps]
    return {step.name: set(names[:place] if step.after is None else step.after) for place, step in enumerate(steps)}


def _longest_chains(steps: Sequence[Step]) -> dict[str, float]:
    """For each step the seconds of the longest chain of dependent steps that begins with it."""
    needed = _dependencies(steps)
    chains: dict[str, float] = {}
    for step in reversed(steps):
        chains[step.name] = step.seconds + max(
            (seconds for name, seconds in chains.items() if step.name in needed[name]), default=0.0
        )
    return chains


def _make_runs(steps: Sequence[Step], work_dir: Path) -> list[_StepRun]:
    """The steps with their states on the disk."""
    keys: dict[str, str] = {}  # what a step's result depends on: kovilt's version, its command, keys of needed steps
    needed = _dependencies(steps)
    runs = []
    for number, step in enumerate(steps, 1):
        parts = [step.key] if step.key else [__version__, *step.command]
        parts += sorted(keys[name] for name in needed[step.name])
        keys[step.name] = hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]
        runs.append(_StepRun(step, number, len(steps), keys[step.name], work_dir))
    return runs


class _StepRun:
    """A step with its state file, its log and, while it runs, its process."""

    progress: StepProgress

    def __init__(self, step: Step, number: int, total: int, key: str, work_dir: Path) -> None:
        self.step, self.number, self.total = step, number, total
        self.title = f'[{number}/{total}] {step.title}'
        self.log = work_dir / 'logs' / f'{number:02d}_{step.name}.log'
        self.state_file = work_dir / 'steps' / f'{step.name}.json'
        self.state: dict[str, Any] = {'key': key, 'command': shlex.join(['python', *step.command])}
        found = read_json(self.state_file) if self.state_file.is_file() else {}
        self.resumes = found.get('key') == key
        self.seconds: float = found['seconds'] if self.resumes else 0.0
        self.done: bool = found['done'] if self.resumes else False
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def is_finished(self) -> bool:
        return self.done and self.step.folder.exists()

    def execute(self) -> str:
        """Run the command to its end; returns what went wrong, or an empty string."""
        if not self.resumes:
            shutil.rmtree(self.step.folder, ignore_errors=True)
        self.step.folder.mkdir(parents=True, exist_ok=True)
        self.done = False
        self._write_state()
        start, before = time.monotonic(), self.seconds
        try:
            exit_code, last_error = self._run_command()
            self.done = exit_code == 0
        finally:
            self.seconds = before + time.monotonic() - start
            self._write_state()
        if exit_code == 0:
            return ''
        message = f': {last_error}' if last_error else ''
        return (
            f'step {self.number} of {self.total} ({self.step.name}) ended with exit code {exit_code}{message}; '
            f'its log: {self.log}'
        )

    def stop(self) -> None:
        """End the command, with the worker processes that it started."""
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)

    def _write_state(self) -> None:
        write_json(self.state_file, {**self.state, 'seconds': self.seconds, 'done': self.done})

    def _run_command(self) -> tuple[int, str]:
        """Run the command with its output in the log; returns its exit code and its last line after 'error: '."""
        command = [sys.executable, *self.step.command]
        environment = {**MALLOC_SETTINGS, **os.environ}
        environment |= {'PYTHONUNBUFFERED': '1', 'PYTHONUTF8': '1', 'HF_HUB_OFFLINE': '1'}
        last_error = ''
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, 'a', encoding='utf-8') as log:
            print(f'$ {shlex.join(command)}', file=log, flush=True)
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding='utf-8',
                errors='replace',
                env=environment,
                start_new_session=True,  # its workers form one group with it
            )
            if self.stopped:  # between the start of this thread and that of the process
                self.stop()
            assert self.process.stdout is not None
            for line in self.process.stdout:  # a carriage return ends a line too
                log.write(line)
                log.flush()
                if line.startswith('error: '):
                    last_error = line.removeprefix('error: ').strip()
                self.progress.read(line)
            return self.process.wait(), last_error
