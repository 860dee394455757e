"""The lines of the console and the log while a run trains."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from kovilt.registry import HOOKS


@HOOKS.register_module()
class RunLoggerHook(LoggerHook):
    """MMEngine's LoggerHook, but it also logs the last step of a run, so that a run of fewer steps has a loss to show.

    Its arguments are those of LoggerHook.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        interval: int = self.interval  # type: ignore[has-type]  # MMEngine has no types
        if runner.iter + 1 == runner.max_iters:
            self.interval = 1
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self.interval = interval
