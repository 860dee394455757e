"""A worker of a data loader that dies or is stuck ends the run within its time and names the sample that it reads."""

import os
import re
import signal
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader

from kovilt.datasets.reading import Reading
from kovilt.engine.loader import WatchedDataLoader, WorkerFault, _start_worker, watch_workers
from kovilt.engine.loops import StepSampler

TIMEOUT = 1


class Numbers(torch.utils.data.Dataset):
    """Twelve numbers, of which number 5 hurts its worker. The workers ignore SIGTERM, as those of a run do."""

    def __init__(self, hurt):
        self.hurt, self.reading = hurt, Reading()

    def __len__(self):
        return 12

    def __getitems__(self, indices):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for index in indices:
            self.reading.note(index)
            if index == 5:
                self.hurt()
        self.reading.note(None)
        return indices

    def describe(self, index):
        return f'row {index} of the numbers'


def watched(hurt, **options):
    return watch_workers(DataLoader(Numbers(hurt), batch_size=2, num_workers=2, **options))


FAULTS = [
    (
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        r'was ended by SIGKILL \(perhaps for lack of memory\); it was reading',
    ),
    (lambda: os._exit(3), 'ended with exit code 3; it was reading'),
    (lambda: os._exit(0), 'ended with exit code 0; it was reading'),
    (lambda: time.sleep(10_000), 'reads'),
]


@pytest.mark.parametrize(('hurt', 'told'), FAULTS, ids=['killed', 'code 3', 'code 0', 'stuck'])
def test_the_sample_of_a_dead_or_stuck_worker_is_named(hurt, told):
    batches = iter(watched(hurt, timeout=TIMEOUT))
    workers = batches._batches._workers
    begin = time.monotonic()
    with pytest.raises(WorkerFault) as fault:
        list(batches)
    assert time.monotonic() - begin < TIMEOUT + 10
    assert re.search(rf'worker 0 .*\(process {workers[0].pid}\) {told} row 5 of the numbers', str(fault.value))
    assert not any(worker.is_alive() for worker in workers)
    assert ('gave no batch for 1 s' in str(fault.value)) == (told == 'reads')


def test_a_worker_that_dies_before_its_batches_are_asked_for_is_named(monkeypatch):
    start = DataLoader.__iter__

    def wait_for_its_death(loader):
        batches = start(loader)
        batches._workers[0].join()
        return batches

    monkeypatch.setattr(DataLoader, '__iter__', wait_for_its_death)
    with pytest.raises(WorkerFault, match='exit code 0; it was reading row 5 of the numbers'):
        next(iter(watched(lambda: os._exit(0), timeout=TIMEOUT)))


def test_a_worker_reports_no_broken_connection_to_the_process_that_ends(monkeypatch, capsys):
    """Of the thread that hands over its tensors."""
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    monkeypatch.setattr('kovilt.engine.loader.end_with_parent', lambda number: None)
    _start_worker(0, initialize=None)
    for error in (EOFError(), ConnectionResetError(), ValueError('a bug')):
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == 'ValueError: a bug\n'


def test_a_slow_worker_is_waited_for(monkeypatch):
    monkeypatch.setattr('kovilt.engine.loader._CHECK_INTERVAL', 0.05)
    loader = watched(lambda: time.sleep(0.3))
    assert (loader.timeout, loader.patience) == (0.05, 0)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_a_loader_keeps_its_options():
    def initialize(number):
        """Of a plugin."""

    loader = watched(lambda: None, timeout=7, worker_init_fn=initialize, persistent_workers=True, prefetch_factor=3)
    again = WatchedDataLoader(loader, [[1, 2]])
    for one in (loader, again):
        assert (one.patience, one.timeout, one.prefetch_factor, one.num_workers) == (7, 5, 3, 2)
        assert one.worker_init_fn.keywords == {'initialize': initialize}
    assert loader.persistent_workers and not again.persistent_workers and again.batch_sampler == [[1, 2]]
    alone = watch_workers(DataLoader(Numbers(lambda: None), batch_size=4))
    assert alone.timeout == 0 and len(list(alone)) == 3


def test_a_run_that_is_over_has_no_batch_left():
    """A sampler of no batches is false, and must not be taken for none."""
    loader = DataLoader(Numbers(None), batch_size=2)
    assert len(loader) == 6 and list(WatchedDataLoader(loader, StepSampler(loader.batch_sampler, 6, 6))) == []


def test_workers_end_with_their_process(tmp_path):
    """Also one that is stuck, when the process is killed."""
    process = os.fork()
    if not process:
        batches = iter(watched(lambda: time.sleep(10_000)))
        pids = [str(worker.pid) for worker in batches._batches._workers]
        (tmp_path / 'pids.tmp').write_text(' '.join(pids))
        while batches._reading.index_of(0) != 5:
            time.sleep(0.01)
        (tmp_path / 'pids.tmp').rename(tmp_path / 'pids')
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    for pid in (tmp_path / 'pids').read_text().split():
        while is_running(pid):
            time.sleep(0.01)


def is_running(pid):
    """Whether a process lives; one whose parent is gone may stay as a zombie where nobody waits for it."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_the_row_of_a_run_is_named_with_its_image(build):
    runner = build(steps=2, limit=16, options=('train_dataloader.num_workers=1', 'train_dataloader.timeout=1'))
    dataset = runner._train_dataloader.dataset
    make = dataset._make_sample
    dataset._make_sample = lambda row, *rest: time.sleep(10_000) if row == 3 else make(row, *rest)
    record = dataset.record(3)
    due = rf"reads row 3 of 'train', question_id {record['question_id']}, image {re.escape(record['image'])}\. Check"
    with pytest.raises(WorkerFault, match=due):
        runner.train()
