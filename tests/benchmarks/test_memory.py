"""The memory meter sees what a function allocates, whatever freed memory the process holds."""

import os

import pytest

from benchmarks.memory import peak_memory, peak_memory_in_fork, process_memory

SIZE = 1 << 26


@pytest.mark.parametrize('measure', [peak_memory_in_fork, lambda run: peak_memory(run, 'cpu')])
def test_the_peak_is_what_the_work_allocates(measure):
    freed = [bytearray(100_000) for _ in range(2 * SIZE // 100_000)]  # small enough for malloc to hold, once freed
    del freed[:-1]
    once, twice = (measure(lambda times=times: bytearray(times * SIZE)) for times in (1, 2))
    assert once > 0.95 * SIZE and 0.9 * SIZE < twice - once < 1.1 * SIZE


def test_preparation_does_not_count():
    held = []
    peak = peak_memory_in_fork(lambda: bytearray(SIZE), before=lambda: held.append(bytearray(4 * SIZE)))
    assert 0.95 * SIZE < peak < 1.1 * SIZE and not held


def test_private_memory_of_a_process_grows_with_what_it_holds():
    before = process_memory(os.getpid()).private
    held = bytearray(os.urandom(SIZE))
    assert 0.9 * SIZE < process_memory(os.getpid()).private - before < 1.1 * SIZE and len(held) == SIZE
