"""Signals that ask a training to save and end, such as those of a cluster before it takes the machine back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from kovilt.errors import KoviltError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interruption(KoviltError):
    """A training has been saved and is to be run again; exit code 75, which is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75


class SignalWatch:
    """While it is entered, the signals of `SIGNALS` are noted in `received`, to be handled between two steps.

    A second SIGINT (Ctrl-C) raises KeyboardInterrupt at once. Forked workers ignore the signals. Python handles signals
    in the main thread alone; in another thread nothing is watched.
    """

    def __init__(self) -> None:
        self.received: str | None = None  # the name of the first signal
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number).name


class HeldSignal:
    """While it is entered, the handler of a signal runs only in blocks of `released`, also for signals before them.

    For handlers that raise an error, as torch's does when a worker of a data loader has died: in the midst of an
    optimizer step it would leave a part of the parameters updated. Without effect outside of the main thread.
    """

    def __init__(self, number: int) -> None:
        self._number, self._is_released, self._is_pending = number, False, False
        self._handler: Any = None

    def __enter__(self) -> HeldSignal:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(self._number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(self._number, self._handler)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let the handler run."""
        self._is_released = True
        try:
            if self._is_pending:
                self._note(self._number, None)
            yield
        finally:
            self._is_released = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_pending = not self._is_released
        if self._is_released and callable(self._handler):
            self._handler(number, frame)
