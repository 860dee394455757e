"""A hook that hurts a run at a step, for tests of programs that run on their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.registry import HOOKS


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal to the process of a rank before a step, counted from 1, unless the file `done` exists."""

    priority = 'VERY_HIGH'

    def __init__(self, step: int, rank: int, name: str, done: str) -> None:
        self.step, self.rank, self.number, self.done = step, rank, signal.Signals[name], Path(done)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if (runner.iter + 1, runner.rank) == (self.step, self.rank) and not self.done.exists():
            self.done.touch()
            os.kill(os.getpid(), self.number)
