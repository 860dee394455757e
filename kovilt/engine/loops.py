"""The training loops: counted in steps or in epochs. Both can go back to the latest checkpoint."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Sampler

from kovilt.ranges import Count, Index, check_arguments
from kovilt.registry import LOOPS


class StepSampler(Sampler[list[int]]):
    """The batches of the steps `start` to `stop`, epoch after epoch, as one stream.

    A resumed run reaches its step by skipping indices, without loading samples, and the workers of the loader live
    across epochs. `set_epoch` of the `batch_sampler.sampler` is called at the start of each epoch.
    """

    def __init__(self, batch_sampler: BatchSampler, start: int, stop: int) -> None:
        self.batch_sampler = batch_sampler
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[list[int]]:
        first_epoch, skipped = divmod(self.start, len(self.batch_sampler))
        return itertools.islice(self._batches_from(first_epoch), skipped, skipped + len(self))

    def _batches_from(self, first_epoch: int) -> Iterator[list[int]]:
        sampler: Any = self.batch_sampler.sampler  # kovilt's have set_epoch, which torch does not declare
        for epoch in itertools.count(first_epoch):
            sampler.set_epoch(epoch)
            yield from self.batch_sampler

    def __len__(self) -> int:
        return self.stop - self.start


class RollBack(Exception):
    """Raised by a hook: go back to the latest checkpoint and repeat the steps since."""


class _RollBackMixin(BaseLoop):
    """A training loop that goes back to the latest checkpoint when a hook raises `RollBack`."""

    def run(self) -> nn.Module:
        """Train from the current step to the last, and return the model."""
        while True:
            try:
                return self.run_once()
            except RollBack:
                self.runner.roll_back()

    @abstractmethod
    def run_once(self) -> nn.Module:
        """As `run`, up to a `RollBack`."""


@LOOPS.register_module()
class EpochTrainLoop(_RollBackMixin, EpochBasedTrainLoop):
    """MMEngine's EpochBasedTrainLoop that can go back to a checkpoint."""

    def run_once(self) -> nn.Module:
        return EpochBasedTrainLoop.run(self)


@LOOPS.register_module()
class StepTrainLoop(_RollBackMixin, IterBasedTrainLoop):
    """Trains for `max_iters` optimizer steps, and evaluates every `val_interval` steps from `val_begin` on.

    It stops and resumes at any step without reading a batch twice, and evaluates at the end. MMEngine's own loop
    restarts its workers at the end of every epoch, and resumes by loading all earlier batches again. `epoch` is the
    epoch that the current step belongs to.
    """

    @check_arguments
    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        max_iters: Count,
        val_begin: Index = 1,
        val_interval: Count = 1000,
    ) -> None:
        BaseLoop.__init__(self, runner, dataloader)  # IterBasedTrainLoop would start the workers here
        self._max_iters = max_iters
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False  # set by EarlyStoppingHook
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)

    @property
    def _epoch(self) -> int:
        return self._iter // len(self.dataloader)

    @_epoch.setter
    def _epoch(self, epoch: int) -> None:
        """Ignored: MMEngine sets it when it resumes, but the epoch follows from the step."""

    @property
    def _max_epochs(self) -> int:
        return -(-self._max_iters // len(self.dataloader))

    def run_once(self) -> nn.Module:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')  # MMEngine's hooks see the whole training as one epoch
        for batch in self._remaining_batches():
            self.runner.model.train()
            self.run_iter(batch)
            is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if self.runner.val_loop is not None and is_due and self._iter >= self.val_begin:
                self.runner.val_loop.run()
            if self.stop_training:
                break
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _remaining_batches(self) -> DataLoader:
        """The configured loader with the batches of the remaining steps."""
        loader = self.dataloader
        return DataLoader(
            loader.dataset,
            batch_sampler=StepSampler(loader.batch_sampler, self._iter, self._max_iters),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            prefetch_factor=loader.prefetch_factor,
            multiprocessing_context=loader.multiprocessing_context,
        )
