"""Data loaders whose workers are watched: one that dies or is stuck ends the run and names the sample that it reads."""

from __future__ import annotations

import functools
import multiprocessing.connection
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, IterableDataset, Sampler

from kovilt.datasets.reading import Reading
from kovilt.errors import RunFault, first_line
from kovilt.processes import end_with_parent

# Seconds without a batch: less than `RankWatch` allows, since a stuck worker can be named and a waiting process cannot.
FIRST_TIMEOUT, TIMEOUT = 270.0, 90.0
_CHECK_INTERVAL = 5.0  # seconds after which it is checked again whether all workers live


class WorkerFault(RunFault):
    """A worker of a data loader has died or is stuck."""


class WatchedDataLoader(DataLoader):
    """A DataLoader that names what a dead or stuck worker reads, and whose workers end with their process.

    `timeout` of torch waits as long before it notices a worker that ended with exit code 0, and names nothing.

    Args:
        loader: the loader to take the place of, for a dataset with indices.
        batch_sampler: in place of that of `loader`; its workers then live for one pass.
    """

    def __init__(self, loader: DataLoader, batch_sampler: Sampler[list] | None = None) -> None:
        self.patience: float = loader.patience if isinstance(loader, WatchedDataLoader) else loader.timeout
        super().__init__(
            loader.dataset,
            batch_sampler=loader.batch_sampler if batch_sampler is None else batch_sampler,  # one may be empty
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=min(self.patience or _CHECK_INTERVAL, _CHECK_INTERVAL) if loader.num_workers else 0,
            worker_init_fn=functools.partial(_start_worker, initialize=_inner(loader.worker_init_fn)),
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers and batch_sampler is None,
        )

    def __iter__(self) -> Any:
        if self.num_workers and (reading := getattr(self.dataset, 'reading', None)) is not None:
            reading.clear()  # before the workers start: they read ahead at once
        batches = super().__iter__()
        return WatchedBatches(batches, self.dataset, self.patience) if self.num_workers else batches


def watch_workers(loader: DataLoader) -> DataLoader:
    """The loader with watched workers; unchanged if its dataset is a stream, of which no sample has a number."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return loader
    return WatchedDataLoader(loader)


class WatchedBatches:
    """The batches of one pass of a WatchedDataLoader.

    Args:
        batches: torch's iterator.
        dataset: with the attribute `reading` (`datasets.reading.Reading`) and the method `describe` samples are named.
        patience: seconds without a batch; 0 = 270 for the first and 90 for the others.
    """

    def __init__(self, batches: Any, dataset: Any, patience: float) -> None:
        self._batches, self._dataset = batches, dataset
        self._reading: Reading | None = getattr(dataset, 'reading', None)
        self._patience = patience or FIRST_TIMEOUT
        self._later = patience or TIMEOUT

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Any:
        begin = time.monotonic()
        while True:
            try:
                batch = next(self._batches)
            except (RuntimeError, OSError, EOFError) as error:  # the last two are of the connection to a worker
                is_late = str(error).startswith('DataLoader timed out')
                if is_late and time.monotonic() - begin < self._patience:
                    continue
                fault = self._describe_stuck() if is_late else self._describe_death(error)
                if not fault:
                    raise
                self.stop_workers()
                raise WorkerFault(fault) from error
            self._patience = self._later
            return batch

    def fault_of(self, error: Exception) -> Exception:
        """A WorkerFault in place of what torch raises for a dead worker, which it also does outside of `next`."""
        if isinstance(error, RuntimeError) and str(error).startswith('DataLoader worker'):
            return WorkerFault(self._describe_death(error))
        return error

    def stop_workers(self) -> None:
        """End the workers. One that is stuck is killed: it would ignore SIGTERM, and this process would wait for it."""
        if self._batches._worker_pids_set:  # or torch raises an error for each worker that is killed here
            _remove_worker_pids(id(self._batches))
            self._batches._worker_pids_set = False
        for number, worker in enumerate(self._batches._workers):
            if self._reading is None or self._reading.index_of(number) is not None:
                worker.kill()
        self._batches._shutdown_workers()

    def _describe_stuck(self) -> str:
        stuck = [
            f'worker {number} (process {worker.pid}) reads {self._describe_sample(number)}'
            for number, worker in enumerate(self._batches._workers)
            if self._reading is not None and self._reading.index_of(number) is not None
        ]
        return (
            f'the data loader gave no batch for {self._patience:.0f} s: '
            f'{"; ".join(stuck[:4]) or "its workers read no sample, one may be stuck between two"}. Check the file and '
            'its disk; train_dataloader.timeout=SECONDS (val_dataloader.timeout) allows more'
        )

    def _describe_death(self, error: BaseException) -> str:
        """Which worker has died, so that `error` came of it; '' if none has."""
        workers = {worker.sentinel: number for number, worker in enumerate(self._batches._workers)}
        for dead in multiprocessing.connection.wait(list(workers), timeout=1):
            number = workers[int(dead)]  # type: ignore[arg-type]  # of a process, an int
            worker = self._batches._workers[number]
            worker.join(timeout=1)  # it has closed its files, and may still be about to end
            end = f'ended with exit code {worker.exitcode}'
            if worker.exitcode is not None and worker.exitcode < 0:
                end = f'was ended by {signal.Signals(-worker.exitcode).name}'
            hint = {-signal.SIGKILL: ' (perhaps for lack of memory)', -signal.SIGBUS: ' (/dev/shm may be full)'}
            return (
                f'worker {number} of the data loader (process {worker.pid}) {end}{hint.get(worker.exitcode, "")}; '
                f'it was reading {self._describe_sample(number)}'
            )
        return first_line(error) if str(error).startswith('DataLoader') else ''

    def _describe_sample(self, worker: int) -> str:
        index = None if self._reading is None else self._reading.index_of(worker)
        return 'no sample' if index is None else self._dataset.describe(index)


def _inner(initialize: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """What a loader was given to start its workers with, also if it is watched already."""
    if isinstance(initialize, functools.partial) and initialize.func is _start_worker:
        return initialize.keywords['initialize']
    return initialize


def _start_worker(number: int, *, initialize: Callable[[int], None] | None) -> None:
    end_with_parent(signal.SIGKILL)  # a stuck one would outlive a process that is killed
    sys.excepthook = _report_error
    if initialize is not None:
        initialize(number)


def _report_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an error of a worker's thread, unless the process to which it hands a tensor has stopped asking for it."""
    if not isinstance(error, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)
