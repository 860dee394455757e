"""A process that stands still ends the run of all, named with its last step; one that is only slow does not."""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed

from kovilt.engine.distributed import join_processes, lost_process_errors, mark_progress
from kovilt.engine.rank_watch import Beat, RankWatch, describe_hang
from kovilt.errors import KoviltError
from tests.tools.test_dist import free_port

TIMEOUT = 3.0


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep_for_ever() -> None:
    time.sleep(10_000)


def loop_for_ever() -> None:
    while True:
        pass


def take_steps(rank: int, port: str, log: Path, hurt: int, hang: Callable[[], None]) -> None:
    """Three steps, of which the last hangs on the rank `hurt`."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = os.fdopen(2, 'w', buffering=1)
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'RANK': str(rank), 'WORLD_SIZE': '2'}
    join_processes(timeout=TIMEOUT)
    for step in range(3):
        mark_progress('before_train_iter', step)
        if (rank, step) == (hurt, 2):
            hang()
        with lost_process_errors():
            torch.distributed.all_reduce(torch.ones(1))
        mark_progress('after_train_iter', step)


HANGS = [(hurt, hang) for hurt in (0, 1) for hang in (stop_this_process, sleep_for_ever, loop_for_ever)]


@pytest.fixture(scope='module')
def hung(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], tuple[list, list[str], float]]:
    """Of each hang the processes, what they printed, and the seconds until all but a stopped one had ended.

    All run at the same time, since they only wait.
    """
    fork, folder = multiprocessing.get_context('fork'), tmp_path_factory.mktemp('hangs')
    runs = {}
    for hurt, hang in HANGS:
        port = free_port()
        logs = [folder / f'{hurt}-{hang.__name__}-{rank}.txt' for rank in (0, 1)]
        processes = [fork.Process(target=take_steps, args=(rank, port, logs[rank], hurt, hang)) for rank in (0, 1)]
        for process in processes:
            process.start()
        runs[hurt, hang.__name__] = processes, logs
    begin, found = time.monotonic(), {}
    for (hurt, name), (processes, logs) in runs.items():
        waiting = processes if name != 'stop_this_process' else [processes[1 - hurt]]
        for process in waiting:
            process.join(TIMEOUT + 45 - (time.monotonic() - begin))
        seconds = time.monotonic() - begin
        found[hurt, name] = processes, [log.read_text() for log in logs], seconds
    for processes, _, _ in found.values():
        for process in processes:
            process.kill()
    return found


@pytest.mark.parametrize(('hurt', 'name'), [(hurt, hang.__name__) for hurt, hang in HANGS])
def test_a_hang_ends_all_and_names_rank_and_step(hung, hurt, name):
    processes, printed, seconds = hung[hurt, name]
    assert seconds < TIMEOUT + 45
    ended = [rank for rank in (0, 1) if name != 'stop_this_process' or rank != hurt]
    for rank in ended:
        assert processes[rank].exitcode == 1
        [line] = [line for line in printed[rank].splitlines() if line.startswith('error: ')]
        assert 'the last step that all have finished is 2,' in line and '--resume continues' in line
        assert 'Traceback' not in printed[rank]
        if name == 'stop_this_process':
            assert re.match(rf'error: rank {hurt} \(process {processes[hurt].pid} on .*\) does not answer', line)
        else:
            place = rf'tests/engine/test_rank_watch.py:\d+ in {name}'
            assert re.search(
                rf'rank {hurt} \(process {processes[hurt].pid} on .*\) stands still in before_train_iter at {place}',
                line,
            )


class Clock:
    """A store and a time for watches that are driven by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **arguments) -> None:
        self.now, self.worked = 1000.0, 0.0
        monkeypatch.setattr('kovilt.engine.rank_watch.time.monotonic', lambda: self.now)
        monkeypatch.setattr('kovilt.engine.rank_watch.time.process_time', lambda: self.worked)
        monkeypatch.setattr('kovilt.engine.rank_watch._count_exchanges', lambda: 0)
        store = torch.distributed.HashStore()
        self.watches = [RankWatch(store, rank, 2, **arguments) for rank in (0, 1)]

    def wait(self, seconds: int, *reporting: int) -> str:
        """Let time pass while some ranks report; returns what rank 0 then says."""
        verdict = ''
        for _ in range(seconds):
            self.now += 1
            for rank in (*reporting, *reporting):
                self.watches[rank].exchange()
            verdict = self.watches[0].judge()
        return verdict


def test_no_process_is_ended_while_one_comes_on(monkeypatch):
    """A rank that validates, or saves, for long while the other waits for it."""
    clock = Clock(monkeypatch)
    for watch in clock.watches:
        watch.mark('before_train_iter', 0)
        watch.mark('after_train_iter', 0)
        watch.mark('before_val_iter', 1)
        watch.mark('after_val_iter', 1)
    for _ in range(20):
        clock.watches[1].mark('after_val_iter', 1)
        assert clock.wait(90, 0, 1) == ''
    clock.watches[0].mark('before_save_checkpoint', 1)
    assert clock.wait(299, 0, 1) == ''
    assert 'the last step that all have finished is 1, and no process has come on for 301 s' in clock.wait(2, 0, 1)


def test_300_seconds_until_the_first_step_and_100_afterwards(monkeypatch):
    clock = Clock(monkeypatch)
    for watch in clock.watches:
        watch.mark('before_train_iter', 0)
    assert clock.wait(299, 0, 1) == '' and clock.wait(2, 0, 1)
    for watch in clock.watches:
        watch.mark('after_train_iter', 0)
    assert clock.wait(99, 0, 1) == '' and clock.wait(2, 0, 1)
    for watch in clock.watches:
        watch.mark('after_val_iter', 1, long=True)  # the last batch: the metrics follow
    assert clock.wait(299, 0, 1) == '' and clock.wait(2, 0, 1)


def test_who_computes_while_data_is_read_comes_on(monkeypatch):
    """Rows of a large data set are read for many minutes; a process that sleeps meanwhile is noticed all the same."""
    clock = Clock(monkeypatch)
    for watch in clock.watches:
        watch.mark('build_dataloader', work=True)
    for _ in range(600):
        clock.worked += 1
        assert clock.wait(1, 0, 1) == ''
    assert clock.wait(299, 0, 1) == '' and clock.wait(2, 0, 1)


def test_the_timeout_of_the_config_holds_from_the_start(monkeypatch):
    clock = Clock(monkeypatch, timeout=20)
    assert clock.wait(19, 0, 1) == '' and clock.wait(2, 0, 1)


def test_who_waits_has_begun_more_exchanges():
    waits, stands = (
        Beat(5, 30, 20, 7, 'before_train_iter', exchanges, f'process {exchanges} on a', place, '')
        for exchanges, place in ((41, ''), (40, 'data.py:3 in read'))
    )
    line = describe_hang({0: waits, 1: stands, 2: waits}, (), waits)
    assert line.startswith(
        'rank 1 (process 40 on a) stands still in before_train_iter at data.py:3 in read; the last step that all have '
        'finished is 7, and no process has come on for 30 s.'
    )
    assert describe_hang({0: waits, 1: waits}, (), waits).startswith('all ranks wait in the same exchange, so a device')
    assert describe_hang({0: stands, 1: waits}, {1}, waits).startswith('rank 1 (process 41 on a) does not answer;')


def test_a_missing_process_is_named_at_the_start(monkeypatch):
    port = free_port()
    for name, value in {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'RANK': '0', 'WORLD_SIZE': '3'}.items():
        monkeypatch.setenv(name, value)
    due = rf'MASTER_PORT {port}: the processes cannot join \(Timed out .* 1/3 clients joined.\); check that all are '
    with pytest.raises(KoviltError, match=due):
        join_processes(join_timeout=1)
