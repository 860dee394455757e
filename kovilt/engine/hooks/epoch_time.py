"""Time and memory of an epoch of training, as in table 2 of the paper."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.batch import Batch
from kovilt.registry import HOOKS


@HOOKS.register_module()
class EpochTimeHook(Hook):
    """Measures the seconds of an epoch without evaluation and checkpoints, the texts per second and the peak memory.

    Seconds and `peak_memory_mb` (see `peak_memory_mb()`) are those of the process with the largest; texts per second
    are of all processes together. The seconds of a run counted in steps are scaled to the length of an epoch. The
    results are logged, and RunRecordHook reads them from the message hub under `epoch_time`.
    """

    in_epoch = False

    def before_train_epoch(self, runner: Runner) -> None:
        self.seconds, self.texts, self.steps, self.peak_memory = 0.0, 0, 0, 0.0
        self.in_epoch = True
        self._start_clock()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch] = (), outputs: dict[str, Any] | None = None
    ) -> None:
        self.texts += sum(len(batch['input_ids']) for batch in data_batch)
        self.steps += 1
        self.peak_memory = max(self.peak_memory, peak_memory_mb())  # at every step: MMEngine's logger resets the peak

    def before_val(self, runner: Runner) -> None:
        if self.in_epoch:  # a run counted in steps evaluates within its one epoch
            self._stop_clock()

    def after_val(self, runner: Runner) -> None:
        self._start_clock()

    def after_train_epoch(self, runner: Runner) -> None:
        self._stop_clock()
        self.in_epoch = False
        maxima = torch.tensor([self.seconds, self.peak_memory], dtype=torch.float64)
        texts = torch.tensor(self.texts)
        all_reduce(maxima, op='max')
        all_reduce(texts, op='sum')
        seconds, peak_memory = maxima.tolist()
        epoch_seconds = seconds * len(runner.train_dataloader) / max(self.steps, 1)
        speed = texts.item() / max(seconds, 1e-9)
        result = dict(epoch_seconds=epoch_seconds, texts_per_second=speed, processes=runner.world_size)
        runner.message_hub.update_info('epoch_time', {**result, 'peak_memory_mb': peak_memory})
        runner.logger.info(
            f'an epoch of training takes {epoch_seconds:.1f} s, {speed:.0f} texts/s on {runner.world_size} process(es)'
        )

    def _start_clock(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()  # evaluation uses larger batches
        self.start = time.perf_counter()

    def _stop_clock(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self.start


def peak_memory_mb() -> float:
    """Peak memory of this process in MiB: allocated on its GPU since the last reset, else occupied since its start.

    The workers of the data loader are not counted.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    unit = 2**20 if sys.platform == 'darwin' else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
