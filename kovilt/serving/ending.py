"""How the service ends: SIGTERM and SIGINT end it in order and with exit code 0, whenever they come."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Ended(BaseException):
    """Passes through whatever runs, such as the import of torch or the loading of a model."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT leave this context, without an error. Only for the main thread.

    While uvicorn serves, it handles both itself, and raises them again when all requests are answered.
    """
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def end(number: int, frame: Any) -> None:
        raise _Ended

    try:
        for number in _SIGNALS:
            signal.signal(number, end)
        yield
    except _Ended:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
