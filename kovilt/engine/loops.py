"""Training counted in steps, which stops and resumes anywhere without reading a batch twice."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader, Sampler

from kovilt.registry import LOOPS


class StepSampler(Sampler[list[int]]):
    """The batches of steps `start` to `stop`, epoch after epoch, as one stream.

    A resumed run begins at its step by drawing indices only; workers live from the first step to the last, over the
    ends of epochs. `batch_sampler.sampler.set_epoch` is called as each epoch begins.
    """

    def __init__(self, batch_sampler, start: int, stop: int) -> None:
        self.batch_sampler = batch_sampler
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[list[int]]:
        length = len(self.batch_sampler)
        step = self.start
        while step < self.stop:
            epoch, skip = divmod(step, length)
            self.batch_sampler.sampler.set_epoch(epoch)
            for index, batch in enumerate(self.batch_sampler):
                if index < skip:
                    continue
                yield batch
                step += 1
                if step == self.stop:
                    return

    def __len__(self) -> int:
        return self.stop - self.start


@LOOPS.register_module()
class StepTrainLoop(IterBasedTrainLoop):
    """Trains for `max_iters` optimizer steps, validating every `val_interval` steps and at the end.

    MMEngine's own loop restarts its workers, and sleeps, at every end of the data, and resumes by loading and
    throwing away all batches that were used before. `epoch` is the pass over the data that the current step belongs
    to.
    """

    def __init__(self, runner, dataloader, max_iters: int, val_begin: int = 1, val_interval: int = 1000) -> None:
        BaseLoop.__init__(self, runner, dataloader)  # IterBasedTrainLoop would start the workers here
        self._max_iters = max_iters
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False  # set by EarlyStoppingHook
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, None)
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)

    @property
    def _epoch(self) -> int:
        return self._iter // len(self.dataloader)

    @_epoch.setter
    def _epoch(self, epoch: int) -> None:
        """MMEngine's resume writes it; it follows from the step."""

    @property
    def _max_epochs(self) -> int:
        return -(-self._max_iters // len(self.dataloader))

    def run(self):
        """Trains from the current step to the last; returns the model."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')  # the whole training is one epoch to MMEngine's hooks
        for batch in self._batches():
            self.runner.model.train()
            self.run_iter(batch)
            if (
                self.runner.val_loop is not None
                and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
            ):
                self.runner.val_loop.run()
            if self.stop_training:
                break
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _batches(self) -> DataLoader:
        """The configured loader, over the steps that are left."""
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
