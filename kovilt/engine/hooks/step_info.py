"""Numbers of a training step, fetched from the device when they are logged."""

from __future__ import annotations

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook

from kovilt.engine.optim import watched
from kovilt.registry import HOOKS


@HOOKS.register_module()
class StepInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook, without its wait for the device at every number of every step.

    Losses and what else a step returns stay on the device until the logger's next line, then go to the message hub
    together.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)
        self.names: list[str] = []
        self.steps: list[torch.Tensor] = []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        values = watched(runner, outputs)
        if values:
            self.names = list(values)  # the same at every step
            self.steps.append(torch.stack([value.float() for value in values.values()]))
        if (batch_idx + 1) % self.interval == 0 or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._flush(runner)

    def after_train_epoch(self, runner) -> None:
        self._flush(runner)

    def _flush(self, runner) -> None:
        for step in torch.stack(self.steps).tolist() if self.steps else ():
            for name, value in zip(self.names, step, strict=True):
                runner.message_hub.update_scalar(f'train/{name}', value)
        self.steps.clear()
