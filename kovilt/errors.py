"""The exception for bad input, and how commands end: one line on stderr and exit code 2."""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from kovilt.terminal import printable, set_up_output


class KoviltError(Exception):
    """Bad input from a user. The message is one line that names the file, key or value, and the remedy."""

    exit_code: ClassVar[int] = 2


class RunFault(KoviltError):
    """A fault of a run that was well begun. The message also says what is safe and how to continue."""

    exit_code = 1


class KoviltWarning(UserWarning):
    """What a user should know about input that is used all the same. One line that names the file, key or value."""


class BadValueError(KoviltError, ValueError):
    """A value that an argument does not take. For users of the Python API it is also a ValueError."""


_SPLITS = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validation': 'val',
    'dev': 'dev',
    'test': 'test',
}


def _split_words(name: str) -> set[str]:
    return {_SPLITS[word] for word in re.findall('[a-z]+', str(name).lower()) if word in _SPLITS}


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The text " (did you mean 'x'?)" for the candidate most similar to `name`; empty when none is similar."""
    found = nearest_name(name, candidates)
    return f' (did you mean {found!r}?)' if found is not None else ''


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most similar to `name`; None when none is similar.

    A candidate of another split is never proposed: who misses train.jsonl does not mean val.jsonl.
    """
    split = _split_words(name)
    by_lower = {str(candidate).lower(): str(candidate) for candidate in candidates}
    if split:
        by_lower = {lower: candidate for lower, candidate in by_lower.items() if _split_words(lower) in (split, set())}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class when the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def config_errors(place: str) -> Iterator[None]:
    """Turn what a constructor raises at wrong arguments into a KoviltError that names `place`, a part of the config.

    MMEngine's constructors check by assertions and look names up, torch's compute with what they are given.
    """
    try:
        yield
    except (TypeError, ValueError, AssertionError, LookupError, ArithmeticError, AttributeError) as error:
        raise KoviltError(f'{place}: {" ".join(str(error).split()) or type(error).__name__}') from error


def user_error(error: BaseException) -> KoviltError | None:
    """The KoviltError that `error` is or was raised from; None when there is none, so the program has a bug.

    Running out of memory is a RunFault, where `kovilt.models.memory` has not already told the batch.

    torch's DataLoader raises the exception of a worker again in the main process, with the worker's whole traceback as
    the message. The original message is the last line of it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KoviltError):
            message = str(cause).strip()
            if message.startswith('Caught KoviltError in '):
                message = message.splitlines()[-1].split('KoviltError: ', 1)[-1]
            return type(cause)(message)
        cause = cause.__cause__
    if is_out_of_memory(error):
        return RunFault(
            'out of memory while data was read or written; use fewer worker processes (--workers, num_workers of the '
            'data loaders), smaller batches, or a machine with more memory'
        )
    return None


# Of torch's DefaultCPUAllocator, of C++, and of oneDNN, which computes products on CPUs; each raises a RuntimeError.
_NO_MEMORY = re.compile("can't allocate memory|std::bad_alloc|could not (create|execute) a primitive$")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python, in torch on a CPU or in torch on a GPU (torch.OutOfMemoryError)."""
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


_format_other_warning = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if issubclass(category, KoviltWarning):
        return f'warning: {printable(message)}\n'
    return _format_other_warning(message, category, filename, lineno, line)


def run_cli(main: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run the `main` of a command-line tool and return its exit code: 0, 2 for bad input, 1 for a RunFault, 130
    when interrupted.

    Bad input is printed as `error: <message>` on stderr, or raised with its traceback if `debug` is set. Other
    exceptions are raised: they are bugs, not a user's mistakes. A KoviltWarning is one line as well.
    """
    set_up_output()
    warnings.formatwarning = _format_warning
    try:
        return main() or 0
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush of stdout fails as well
        return 0
    except Exception as error:
        found = user_error(error)
        if debug or found is None:
            raise
        print(f'error: {printable(found)}', file=sys.stderr)
        return found.exit_code
