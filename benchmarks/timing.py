"""Timing: several variants of the same work in turn, by the clock that suits the device.

Every variant runs once in each round, in random order, so that whatever slows the machine down for a while slows all
variants alike. A ratio of two variants is the median over the rounds of each round's own ratio.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from kovilt.errors import KoviltError

Clock = Callable[[], float]  # returns seconds; only differences have a meaning
Name = TypeVar('Name', bound=Hashable)


# Devices


def prepare_device(device: str) -> str:
    """Check that the device exists, limit torch to one thread on a CPU, and return a description for table headings.

    With one thread, processor time is the time that the work takes on a machine with nothing beside it.

    Raises:
        KoviltError: the device is neither cpu nor cuda, or torch sees no GPU.
    """
    import torch

    if device.split(':')[0] not in ('cpu', 'cuda'):
        raise KoviltError(f'--device {device}: give cpu or cuda')
    if is_cuda(device) and not torch.cuda.is_available():
        raise KoviltError(f'--device {device}: torch sees no GPU; leave the option out to use the CPU')
    if not is_cuda(device):
        torch.set_num_threads(1)
    return f'{describe_machine(device)}, {default_precision(device)}'


def describe_machine(device: str) -> str:
    """The processor and its number of threads, or the GPU and its memory, with the version of torch."""
    import torch

    if is_cuda(device):
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f'{torch.cuda.get_device_name(device)} ({memory:.0f} GiB), torch {torch.__version__}'
    threads = torch.get_num_threads()
    return f'{cpu_name()}, {threads} thread{"s" * (threads > 1)}, torch {torch.__version__}'


def cpu_name() -> str:
    """The processor's model name from /proc/cpuinfo, elsewhere the name that Python gives."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def is_cuda(device: str) -> bool:
    return device.startswith('cuda')


def default_precision(device: str) -> str:
    """The precision that benchmarks compute in: bfloat16 on CUDA, float32 on a CPU."""
    return 'bfloat16' if is_cuda(device) else 'float32'


def autocast(device: str, precision: str | None = None) -> AbstractContextManager:
    """torch.autocast to `precision` (None = the device's default), or a context that does nothing for float32."""
    import torch

    precision = precision or default_precision(device)
    if precision == 'float32':
        return nullcontext()
    return torch.autocast(device.split(':')[0], getattr(torch, precision))


# Clocks


def processor_clock() -> float:
    """Processor seconds of this process and of the child processes that it has waited for.

    Other processes on the same machine lengthen it far less than they lengthen wall time.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run_kovilt(command: list[str], **environment: str) -> float:
    """Run a command of `kovilt.recipes.commands`; returns its processor seconds, with those of its processes.

    Args:
        environment: variables beside those of this process.

    Raises:
        KoviltError: it fails.
    """
    before, variables = processor_clock(), os.environ | environment
    done = subprocess.run([sys.executable, *command], env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        line = f'kovilt {command[2]} ended with exit code {done.returncode}'
        raise KoviltError(f'{line}: {(done.stderr or done.stdout)[-500:]}')
    return processor_clock() - before


wall_clock: Clock = time.perf_counter


def device_clock(device: str) -> Clock:
    """The processor's clock for a CPU; for a GPU wall time, after waiting until the GPU has finished its work."""
    if not is_cuda(device):
        return processor_clock

    def clock() -> float:
        import torch

        torch.cuda.synchronize(device)
        return wall_clock()

    return clock


# Rounds


def time_in_turn(
    variants: Mapping[Name, Callable[[], object]],
    *,
    rounds: int,
    clock: Clock = processor_clock,
    warm_ups: int = 1,
    untimed: int = 0,
    repeats: int = 1,
) -> dict[Name, list[float]]:
    """Seconds of one run of each variant, by round; every round runs all variants in a random order.

    Args:
        variants: the work to time, by name.
        rounds: number of timed rounds.
        clock: the clock to read before and after.
        warm_ups: untimed rounds before the first timed one.
        untimed: runs of a variant directly before each timing of it, for example to let a GPU's allocator find blocks
            after a variant of other sizes.
        repeats: runs of a variant in one timing, of which the mean counts.
    """
    rng, names = random.Random(0), list(variants)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for _ in range(warm_ups):
        for name in names:
            variants[name]()
    for _ in range(rounds):
        for name in rng.sample(names, len(names)):
            for _ in range(untimed):
                variants[name]()
            start = clock()
            for _ in range(repeats):
                variants[name]()
            seconds[name].append((clock() - start) / repeats)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times as long `slow` took as `fast`: the median over the rounds of each round's ratio."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def count_host_waits(run: Callable[[], object]) -> list[str]:
    """The places in the code, as `file:line`, at which `run` makes the host wait for the GPU, once for each wait.

    torch's sync debug mode finds them, but not every synchronizing operation.
    """
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return [f'{Path(w.filename).name}:{w.lineno}' for w in caught if 'synchronizing CUDA operation' in str(w.message)]
