"""Bad input has one exception and one way out: a line on stderr and exit code 2."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class KoviltError(Exception):
    """Bad input from a user: one line that names the file, key or value and the remedy."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the candidate most like `name`, or "" when none is close."""
    by_lower = {str(candidate).lower(): str(candidate) for candidate in candidates}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f' (did you mean {by_lower[matches[0]]!r}?)' if matches else ''


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or the name of its class when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def config_errors(place: str) -> Iterator[None]:
    """Turn a TypeError or ValueError of a constructor into a KoviltError that names `place`, a part of the config."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise KoviltError(f'{place}: {" ".join(str(error).split())}') from error


def user_error(error: BaseException) -> KoviltError | None:
    """The KoviltError behind `error`, or None when it is no user's mistake.

    torch's DataLoader raises a worker's exception again in the main process as the same class with the worker's whole
    traceback for a message; the message proper is its last line. Exceptions that were raised `from` a KoviltError
    count.
    """
    while error is not None:
        if isinstance(error, KoviltError):
            message = str(error).strip()
            if message.startswith('Caught KoviltError in '):
                message = message.splitlines()[-1].split('KoviltError: ', 1)[-1]
            return KoviltError(message)
        error = error.__cause__
    return None


def run_cli(main: Callable[[], int | None], *, debug: bool = False) -> int:
    """Runs a command-line tool's `main`; returns the exit code: 0, 2 for bad input, 130 when interrupted.

    Bad input is shown as `error: <message>` on stderr; `debug` raises it with its traceback instead. Other exceptions
    pass through: they are mistakes of the program, not of its user.
    """
    try:
        return main() or 0
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except (
        BrokenPipeError
    ):  # the reader of a pipe, such as `head`, has left; let the interpreter's own flush stay quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        found = user_error(error)
        if debug or found is None:
            raise
        print(f'error: {found}', file=sys.stderr)
        return 2
