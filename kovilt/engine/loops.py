"""The training loops: counted in steps or in epochs. Both can go back to the latest checkpoint."""

from __future__ import annotations

import itertools
import signal
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Sampler

from kovilt.engine.hooks.average import restore_trained_weights
from kovilt.engine.hooks.checkpoint import CheckpointHook
from kovilt.engine.hooks.nonfinite import RollBack
from kovilt.engine.hooks.run_record import read_validation
from kovilt.engine.interruption import HeldSignal, Interruption
from kovilt.engine.loader import WatchedBatches, WatchedDataLoader
from kovilt.engine.run_files import SaveFault
from kovilt.errors import KoviltError, RunFault, user_error
from kovilt.ranges import Count, Index, check_arguments
from kovilt.registry import LOOPS


class StepSampler(Sampler[list[int]]):
    """The batches of the steps `start` to `stop`, epoch after epoch, as one stream.

    A resumed run reaches its step by skipping indices, without loading samples. `set_epoch` of the
    `batch_sampler.sampler` is called at the start of each epoch.
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


class _TrainLoop(BaseLoop):
    """What both training loops share.

    They stop and resume at any step without reading a batch twice, and the workers of the loader live across epochs.
    (MMEngine's loops start the workers anew in every epoch, and resume within an epoch by loading all earlier batches.)
    A validation that was due when a run ended is made up for when the run is resumed.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict[str, Any], val_begin: int, val_interval: int
    ) -> None:
        BaseLoop.__init__(self, runner, dataloader)  # MMEngine's IterBasedTrainLoop would start the workers here
        self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False  # set by EarlyStoppingHook
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)

    def run(self) -> nn.Module:
        """Train from the current step to the last, and return the model. Go back when a hook raises `RollBack`."""
        while True:
            try:
                self.runner.call_hook('before_train')
                self._make_up_for_validation()
                if not self.stop_training:
                    self.run_steps()
                self.runner.call_hook('after_train')
                return self.runner.model
            except RollBack:
                self.runner.roll_back()

    def _make_up_for_validation(self) -> None:
        """Validate if the run ended before, or while, it recorded a validation that was due after the current step."""
        if not self._iter or not self._is_validation_due():
            return
        metrics = read_validation(self.runner.work_dir, self._iter)
        hook = next((hook for hook in self.runner.hooks if isinstance(hook, CheckpointHook)), None)
        if metrics and (hook is None or hook.is_recorded(self.runner, metrics)):
            return
        self.runner.logger.info(f'the validation after step {self._iter} is made up for')
        self._validate()

    @abstractmethod
    def run_steps(self) -> None:
        """Train and validate from the current step to the last."""

    @abstractmethod
    def _is_validation_due(self) -> bool:
        """Whether the model is to be validated after the current step."""

    def _load(self, start: int, stop: int) -> Iterator[Any]:
        """The batches of the steps `start` to `stop`. When they cannot be loaded, the run is saved before it ends."""
        sampler = StepSampler(self.dataloader.batch_sampler, start, stop)
        batches: Any = iter(WatchedDataLoader(self.dataloader, sampler))
        with HeldSignal(signal.SIGCHLD) as worker_death:
            while True:
                try:
                    with worker_death.released():
                        batch = next(batches)
                except StopIteration:
                    return
                except Exception as error:
                    is_watched = isinstance(batches, WatchedBatches)
                    told = self._save_and_describe(batches.fault_of(error) if is_watched else error)
                    if is_watched:
                        batches.stop_workers()
                    if told is not None:
                        raise told from error
                    raise
                yield batch

    def _validate(self) -> None:
        """Run the validation loop. When it fails, the run is saved before it ends: no weight has changed."""
        try:
            self.runner.val_loop.run()
        except Exception as error:
            if (told := self._save_and_describe(error)) is not None:
                raise told from error
            raise

    def _save_and_describe(self, error: Exception) -> KoviltError | None:
        """Save the run up to its last step. Returns the error in one line that says so; None if it is none of a user.

        In a run of several processes each may be the one that fails, and each holds all that a checkpoint needs.
        """
        found = user_error(error)
        if isinstance(found, (Interruption, SaveFault)):
            return None
        if not self._iter:
            return found
        restore_trained_weights(self.runner)
        try:
            path = self.runner.save_now(self._iter, self._epoch)
            safe = f'the run is saved up to step {self._iter} in {path}; to continue, repeat the command with --resume'
        except RunFault as fault:
            safe = str(fault)
        if found is None:
            self.runner.logger.error(f'{type(error).__name__}: {safe}')
            return None
        return type(found)(f'{found}; {safe}')


@LOOPS.register_module()
class EpochTrainLoop(_TrainLoop, EpochBasedTrainLoop):
    """Trains for `max_epochs`, and evaluates every `val_interval` epochs from `val_begin` on, and at the end."""

    @check_arguments
    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        max_epochs: Count,
        val_begin: Index = 1,
        val_interval: Count = 1,
    ) -> None:
        super().__init__(runner, dataloader, val_begin, val_interval)
        self._max_epochs = max_epochs
        self._max_iters = max_epochs * len(self.dataloader)
        self._epoch = 0

    def run_steps(self) -> None:
        length = len(self.dataloader)
        done = self._iter - self._epoch * length  # steps of the current epoch
        done = done if 0 <= done < length else 0  # the batch size has changed since the checkpoint
        for step, batch in enumerate(self._load(self._epoch * length + done, self._max_iters), start=done):
            if step == done or step % length == 0:
                self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            EpochBasedTrainLoop.run_iter(self, step % length, batch)
            if (step + 1) % length:
                continue
            self.runner.call_hook('after_train_epoch')
            self._epoch += 1
            if self._is_validation_due():
                self._validate()
            if self.stop_training:
                break

    def _is_validation_due(self) -> bool:
        is_end = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        at_boundary = self._iter == self._epoch * len(self.dataloader)
        return self.runner.val_loop is not None and at_boundary and is_end and self._epoch >= self.val_begin


@LOOPS.register_module()
class StepTrainLoop(_TrainLoop, IterBasedTrainLoop):
    """Trains for `max_iters` optimizer steps, and evaluates every `val_interval` steps from `val_begin` on.

    There is also an evaluation at the end. `epoch` is the epoch that the current step belongs to.
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
        super().__init__(runner, dataloader, val_begin, val_interval)
        self._max_iters = max_iters

    @property
    def _epoch(self) -> int:
        return self._iter // len(self.dataloader)

    @_epoch.setter
    def _epoch(self, epoch: int) -> None:
        """Ignored: MMEngine sets it when it resumes, but the epoch follows from the step."""

    @property
    def _max_epochs(self) -> int:
        return -(-self._max_iters // len(self.dataloader))

    def run_steps(self) -> None:
        self.runner.call_hook('before_train_epoch')  # MMEngine's hooks see the whole training as one epoch
        for batch in self._load(self._iter, self._max_iters):
            self.runner.model.train()
            self.run_iter(batch)
            if self._is_validation_due():
                self._validate()
            if self.stop_training:
                break
        self.runner.call_hook('after_train_epoch')

    def _is_validation_due(self) -> bool:
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        return self.runner.val_loop is not None and is_due and self._iter >= self.val_begin
