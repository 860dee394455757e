"""Saving and ending a training when a signal or a time limit asks for it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from kovilt.engine.hooks.average import restore_trained_weights
from kovilt.engine.interruption import Interruption
from kovilt.engine.loops import EpochTrainLoop
from kovilt.ranges import check_arguments
from kovilt.registry import HOOKS


@HOOKS.register_module()
class InterruptHook(Hook):
    """Saves a checkpoint and ends the run, on all processes after the same step, when it is asked to.

    SIGTERM, SIGINT and SIGUSR1 to any of the processes ask for it, and `max_time`. The exit code is then 75: the run is
    complete up to a step, and the same command with `--resume` continues it as if nothing had happened. During a
    validation the run ends after the current batch; the validation is repeated when the run is resumed.

    Args:
        max_time: hours, minutes and seconds, '11:30:00', that the process may train, counted from its start.

    Raises:
        Interruption: the run has been saved.
    """

    priority = 'LOWEST'  # after all that a step and its record need

    @check_arguments
    def __init__(self, max_time: str | None = None) -> None:
        self.max_seconds = None if max_time is None else parse_time(max_time)
        self._start = time.monotonic()
        self._group: Any = None  # a ProcessGroup

    def before_train(self, runner: Runner) -> None:
        if runner.world_size > 1 and self._group is None:
            # gloo, also beside NCCL: asking the others must not wait for the GPU
            self._group = torch.distributed.new_group(backend='gloo')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        by_epoch = isinstance(runner.train_loop, EpochTrainLoop)
        if by_epoch and batch_idx + 1 == len(runner.train_dataloader):
            return  # after_train_epoch follows
        if reason := self._find_reason(runner):
            self._save_and_end(runner, reason, step=runner.iter + 1, epoch=runner.epoch)

    def after_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, EpochTrainLoop) and (reason := self._find_reason(runner)):
            self._save_and_end(runner, reason, step=runner.iter, epoch=runner.epoch + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        is_training = isinstance(runner._train_loop, BaseLoop) and runner._train_loop.iter > 0
        if not is_training or not (reason := self._find_reason(runner)):
            return
        restore_trained_weights(runner)
        self._save_and_end(runner, reason, step=runner.iter, epoch=runner.epoch)

    def _find_reason(self, runner: Runner) -> str:
        """Why the run is to end, the same on all processes; '' = it goes on."""
        reason = runner.signals.received or ''
        if self.max_seconds is not None and time.monotonic() - self._start > self.max_seconds:
            reason = reason or 'max_time'
        if self._group is None:
            return reason
        asked = torch.tensor([bool(reason)], dtype=torch.uint8)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group)
        return reason or ('a signal to another process' if asked.item() else '')

    @staticmethod
    def _save_and_end(runner: Runner, reason: str, step: int, epoch: int) -> None:
        path = Path(runner.work_dir, f'iter_{step}.pth')
        if runner.rank == 0:
            runner.save_now(step, epoch)
        barrier()  # no process ends before the file is complete: its launcher would end the others
        raise Interruption(f'{reason}: the run is saved up to step {step} in {path}; --resume continues it')


def parse_time(text: str) -> float:
    """Seconds of 'hours:minutes:seconds'.

    Raises:
        ValueError: the text has another form.
    """
    found = re.fullmatch(r'(\d+):([0-5]?\d):([0-5]?\d)', str(text))
    if not found:
        raise ValueError(f"max_time {text!r} is not of the form 'hours:minutes:seconds'")
    hours, minutes, seconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds
