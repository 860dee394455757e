"""Worker processes give results in order, end early, and tell when one of them dies."""

import functools
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.processes import map_in_processes


def touch(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    return number


def add(large: list[int], number: int) -> int:
    return number + len(large)


def process_id(_: int) -> int:
    return os.getpid()


def ignores_interrupts(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def die(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def blur(side: int) -> float:
    return float(cv2.GaussianBlur(np.full((side, side), 0.5, np.float32), (31, 31), 0).sum() / side**2)


def threads_of_torch(_: int) -> int:
    return torch.get_num_threads()


def refuse(number: int) -> int:
    raise KoviltError(f'{number} is refused')


@pytest.mark.parametrize('workers, chunk_size', [(1, 1), (2, 1), (2, 3), (3, 100)])
def test_results_come_in_the_order_of_the_items(workers, chunk_size):
    work = functools.partial(add, [0] * 100)
    numbers = list(map_in_processes(work, range(20), workers=workers, chunk_size=chunk_size))
    assert numbers == list(range(100, 120))
    assert list(map_in_processes(work, [], workers=workers, chunk_size=chunk_size)) == []


@pytest.mark.parametrize('workers, items, here', [(1, 9, True), (2, 3, True), (2, 4, False)])
def test_one_worker_or_one_chunk_needs_no_process(workers, items, here):
    ids = set(map_in_processes(process_id, range(items), workers=workers, chunk_size=3))
    assert (ids == {os.getpid()}) == here


def test_only_the_main_process_handles_interrupts():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a command in the background is born ignoring it
    try:
        assert all(map_in_processes(ignores_interrupts, range(4), workers=2))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_work_that_nobody_waits_for_is_cancelled(tmp_path):
    results = map_in_processes(functools.partial(touch, tmp_path), range(10_000), workers=2)
    assert next(results) == 0
    results.close()
    assert len(list(tmp_path.iterdir())) < 10_000


def test_an_error_of_the_work_reaches_the_caller():
    with pytest.raises(KoviltError, match='^0 is refused$'):
        list(map_in_processes(refuse, range(4), workers=2))


def test_a_killed_process_is_an_error_with_its_remedy():
    with pytest.raises(KoviltError, match='lack of memory; use fewer workers'):
        list(map_in_processes(die, range(10), workers=2))


def test_a_worker_does_not_wait_for_threads_of_opencv_that_a_fork_lost():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        assert blur(2000) == pytest.approx(0.5)  # starts the threads
        assert list(map_in_processes(blur, [1000, 1000], workers=2)) == pytest.approx([0.5, 0.5])
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)


def test_a_worker_does_not_wait_for_threads_of_openmp_that_a_fork_lost():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(map_in_processes(threads_of_torch, range(2), workers=2)) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
