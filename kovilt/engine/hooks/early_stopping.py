"""Early stopping that a resumed run continues."""

from __future__ import annotations

import math
from typing import Any

import mmengine.hooks
from mmengine.runner import Runner

from kovilt.engine.hooks.run_record import read_validation
from kovilt.registry import HOOKS

_STATE = 'early_stopping'  # in the message hub, which checkpoints hold


@HOOKS.register_module()
class EarlyStoppingHook(mmengine.hooks.EarlyStoppingHook):
    """MMEngine's hook, which ends the training when a metric has not improved for `patience` validations.

    MMEngine's forgets what it has seen when a run is resumed, and refuses to evaluate with the config of a training.
    """

    def before_run(self, runner: Runner) -> None:
        """Nothing: an evaluation has no training to stop."""

    def before_train(self, runner: Runner) -> None:
        state = runner.message_hub.runtime_info.get(_STATE) or {}
        worst = -math.inf if self.rule == 'greater' else math.inf
        self.best_score: float = state.get('best_score', worst)
        self.wait_count = state.get('wait_count', 0)
        # A checkpoint is saved before the validation after its step.
        metrics = read_validation(runner.work_dir, runner.iter) if runner.iter > state.get('step', 0) else {}
        if metrics:
            self.after_val_epoch(runner, metrics)
        elif self.wait_count >= self.patience:
            runner.train_loop.stop_training = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        state = {'step': runner.iter, 'best_score': self.best_score, 'wait_count': self.wait_count}
        runner.message_hub.update_info(_STATE, state)
