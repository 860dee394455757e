"""Memory in bytes: the peak of a function above what was allocated before it, and what a process holds now.

On a GPU this is what torch has allocated, on a CPU the resident memory of the process, which only Linux reports.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import is_cuda
from kovilt.errors import KoviltError

MB = 2**20
PAGE = 4096


class ProcessMemory(NamedTuple):
    """Resident memory of a process: its own pages, and those that it shares with other processes."""

    private: int
    shared: int


def peak_memory(run: Callable[[], object], device: str) -> int:
    """The most memory that `run` has had at once, above what was there before it.

    Raises:
        KoviltError: a CPU whose system does not report memory in /proc.
    """
    if is_cuda(device):
        import torch

        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _return_freed_memory()
    before = _resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # resets the peak, VmHWM
    run()
    return max(_resident('VmHWM') - before, PAGE)  # a page where nothing was seen, so that logarithms exist


def peak_memory_in_fork(run: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
    """The peak memory of `run` on a CPU in a forked process, which no earlier work has left free memory to.

    `before` runs in the same process first and does not count.

    Raises:
        KoviltError: the process was killed because memory ran out.
    """
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe()
    process = context.Process(target=_send_peak, args=(run, before, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise  # the process has printed its own traceback
        raise KoviltError('out of memory: leave this size out with --only, or choose fewer --pairs') from error
    finally:
        process.join()


def _send_peak(run: Callable[[], object], before: Callable[[], object], sender: Connection) -> None:
    before()
    sender.send(peak_memory(run, 'cpu'))


def process_memory(pid: int | str = 'self') -> ProcessMemory:
    """The resident memory of a process now."""
    sizes: dict[str, int] = {}
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='utf-8').splitlines()[1:]:
        name, size = line.split()[:2]
        sizes[name.rstrip(':')] = int(size) * 1024
    private = sizes['Private_Clean'] + sizes['Private_Dirty']
    return ProcessMemory(private, sizes['Rss'] - private)


def highest_resident() -> int:
    """The most resident memory that this process has had since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _return_freed_memory() -> None:
    """Return freed memory from glibc to the system: if `run` took it from glibc again, the peak would not show it."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def _resident(name: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS, resident memory now, or VmHWM, its peak since the last reset."""
    try:
        lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise KoviltError('memory on a CPU is read from /proc, which only Linux has') from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{name}:'))
