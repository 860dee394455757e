"""Forks that run a function, and the processes that they leave behind."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.checks import Failed, Outcome

_PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


class Process:
    """A fork of this process that runs a function, whose result is the exit code; its output goes to a file."""

    def __init__(
        self, function: Callable[[], int | None], log: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.log, self.start = log, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run_and_exit(function, log, environment or {})

    def wait(self, timeout: float = 120) -> Outcome:
        """Wait for the end.

        Raises:
            Failed: it has not ended in time; it is killed.
        """
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            seconds = time.monotonic() - self.start
            if pid:
                text = self.log.read_text('utf-8', errors='replace') if self.log.exists() else ''
                return Outcome(os.waitstatus_to_exitcode(status), text, seconds)
            if seconds > timeout:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise Failed(f'still running after {timeout:g} s')
            time.sleep(0.005)

    def is_running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


def _run_and_exit(function: Callable[[], int | None], log: Path, environment: dict[str, str]) -> None:
    code = 1
    try:
        signal.alarm(0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environment)
        code = function() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def check_no_orphans(timeout: float = 10) -> None:
    """Failed if a process that this try has started, directly or not, is still there."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return
    raise Failed(f'processes are left: {children()}')


def children() -> list[int]:
    """The processes that this one has started, and those whose parents have died (see `adopt_orphans`)."""
    return [int(pid) for pid in Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()]


def adopt_orphans() -> None:
    """Make this process the parent of those that a process of it leaves behind, so that it can find them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def free_port() -> int:
    """A port for the next group of processes. It is none of those that the system gives to connections (from 32768),
    which another try could get before the group has begun."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as place, suppress(OSError):
            place.bind(('127.0.0.1', port))
            return port
