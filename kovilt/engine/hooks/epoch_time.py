"""How long one pass over the training data takes, and in how much memory: the paper's table 2."""

from __future__ import annotations

import sys
import time

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from kovilt.registry import HOOKS


@HOOKS.register_module()
class EpochTimeHook(Hook):
    """Seconds of pure training per epoch, without evaluation and checkpoints, and texts per second of all processes.

    The slowest process counts, and for `peak_memory_mb` the one with most memory: on a GPU what torch held at most
    during training steps, on CPUs what the process itself held since it began, workers left out. A run that is counted
    in steps is scaled to the length of an epoch. The numbers are logged and left in the message hub as `epoch_time`,
    which RunRecordHook writes down.
    """

    priority = 'NORMAL'

    def before_train_epoch(self, runner) -> None:
        self.seconds, self.texts, self.steps, self.peak = 0.0, 0, 0, 0.0
        self._begin()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self.texts += sum(len(batch['input_ids']) for batch in data_batch)
        self.steps += 1
        self.peak = max(self.peak, peak_memory_mb())  # at every step: MMEngine's logger begins the count anew

    def before_val(self, runner) -> None:
        if hasattr(self, 'began'):  # within a run counted in steps
            self._pause()

    def after_val(self, runner) -> None:
        if hasattr(self, 'began'):
            self._begin()

    def after_train_epoch(self, runner) -> None:
        self._pause()
        most, texts = torch.tensor([self.seconds, self.peak], dtype=torch.float64), torch.tensor(self.texts)
        all_reduce(most, op='max')
        all_reduce(texts, op='sum')
        seconds, peak = most.tolist()
        result = {
            'epoch_seconds': seconds * len(runner.train_dataloader) / max(self.steps, 1),
            'texts_per_second': texts.item() / max(seconds, 1e-9),
            'processes': runner.world_size,
            'peak_memory_mb': peak,
        }
        runner.message_hub.update_info('epoch_time', result)
        runner.logger.info(
            f'an epoch of training takes {result["epoch_seconds"]:.1f} s, {result["texts_per_second"]:.0f} '
            f'texts/s on {runner.world_size} process(es)'
        )

    def _begin(self) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()  # evaluation has other batches
        self.began = time.perf_counter()

    def _pause(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self.began


def peak_memory_mb() -> float:
    """Most memory of this process in MiB: of tensors on its GPU since the count began anew, else its own."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)
