"""Several ways of doing one work, timed in turn: what the benchmarks of models share."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from kovilt.errors import KoviltError


def prepare_device(name: str) -> tuple[str, Callable[[], AbstractContextManager]]:
    """What the device is, for a table's heading, and the context to compute in: float32 on a CPU, bfloat16 on CUDA.

    A CPU computes with one thread from now on, so that its clock is the work's.

    Raises:
        KoviltError: no such device here.
    """
    import torch

    if name.split(':')[0] not in ('cpu', 'cuda'):
        raise KoviltError(f'--device {name}: give cpu or cuda')
    if name.startswith('cuda'):
        if not torch.cuda.is_available():
            raise KoviltError(f'--device {name}: torch sees no GPU here; leave it out')
        return (
            f'{torch.cuda.get_device_name(name)}, bfloat16, torch {torch.__version__}',
            lambda: torch.autocast('cuda', torch.bfloat16),
        )
    torch.set_num_threads(1)
    return f'{cpu_name()}, one thread, float32, torch {torch.__version__}', nullcontext


def cpu_name() -> str:
    """The processor's name as Linux tells it, or what Python knows."""
    import platform

    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            names = [line.partition(':')[2].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def seconds(device: str) -> float:
    """The time now: of this process's work on a CPU, which neighbours lengthen little; of the wall on a GPU.

    What was asked of a GPU is waited for.
    """
    if device.startswith('cuda'):
        import torch

        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def time_in_turn(
    ways: Mapping[str, Callable[[], object]], *, rounds: int, device: str = 'cpu', warm_ups: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way, by round; a round does each once, in an order of its own."""
    chance, order = random.Random(0), list(ways)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warm_ups, rounds):
        for name in order if number < 0 else chance.sample(order, len(order)):
            start = seconds(device)
            ways[name]()
            if number >= 0:
                taken[name].append(seconds(device) - start)
            else:
                seconds(device)
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times as long the first took: the median over the rounds of each round's own ratio."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))
