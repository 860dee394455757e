"""Worker processes that share out work and give its results in order."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from kovilt.errors import KoviltError

_PR_SET_PDEATHSIG = 1  # of Linux's prctl
S = TypeVar('S')
T = TypeVar('T')


def end_with_parent(number: int) -> None:
    """Let this process get a signal when its parent ends. On Linux alone."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def map_in_processes(work: Callable[[S], T], items: Sequence[S], *, workers: int, chunk_size: int = 1) -> Iterator[T]:
    """Yield `work(item)` for each item, in the order of the items.

    When the caller stops iterating, the work that no process has begun is cancelled.

    Args:
        work: a function at the top of a module, or a `functools.partial` of one. It is sent to each process once, so
            that it may carry large objects.
        workers: processes; with 1, or with a single chunk of items, everything is done in this process.
        chunk_size: items that a process takes at a time.

    Raises:
        KoviltError: a process was killed, usually for lack of memory.
    """
    chunks = -(-len(items) // chunk_size)
    if workers == 1 or chunks < 2:
        yield from map(work, items)
        return
    with _without_threads_of_opencv():
        pool = ProcessPoolExecutor(min(workers, chunks), initializer=_start_worker, initargs=(work,))
        results = pool.map(_do_work, items, chunksize=chunk_size)  # forks
    try:
        yield from results
    except BrokenProcessPool:
        raise KoviltError('a worker process was killed, perhaps for lack of memory; use fewer workers') from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _without_threads_of_opencv() -> Iterator[None]:
    """Ends the threads of OpenCV before a fork, which they do not survive: a worker would wait for them forever."""
    cv2 = sys.modules.get('cv2')
    threads = cv2.getNumThreads() if cv2 else 1
    if cv2:
        cv2.setNumThreads(1)
    yield
    if cv2:
        cv2.setNumThreads(threads)


_WORK: list[Callable[[Any], Any]] = []  # in a worker: its function


def _start_worker(work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the main process handles Ctrl-C, with one message
    if torch := sys.modules.get('torch'):
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork: a worker would wait for them forever
    _WORK.append(work)


def _do_work(item: Any) -> Any:
    return _WORK[0](item)
