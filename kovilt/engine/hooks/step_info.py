"""The numbers of a training step, copied from the device only when they are logged."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from kovilt.registry import HOOKS

# Values of each scalar that are kept for means in the log. MMEngine keeps a million, and copies all of them when one is
# added: milliseconds a step after 100,000 steps.
MAX_HISTORY = 10_000


@HOOKS.register_module()
class StepInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook, but it does not make the host wait for the device at every step.

    Losses and the other outputs of a step stay on the device until the logger's next line, or until the bar of a
    terminal shows new numbers, and then go to the message hub together. The histories there do not grow for ever.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)
        self.names: list[str] = []
        self.steps: list[torch.Tensor] = []  # the values of each step since the last line, in the order of `names`

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        values = step_values(runner, outputs)
        if values:
            self.names = list(values)  # the same at every step
            self.steps.append(torch.stack([value.float() for value in values.values()]))
        is_last = runner.iter + 1 == runner.max_iters
        is_end = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if is_last or is_end or (batch_idx + 1) % self.interval == 0 or runner.console.wants_numbers():
            self._publish(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._publish(runner)

    def _publish(self, runner: Runner) -> None:
        for step in torch.stack(self.steps).tolist() if self.steps else ():
            for name, value in zip(self.names, step, strict=True):
                runner.message_hub.update_scalar(f'train/{name}', value)
        self.steps.clear()
        for history in runner.message_hub.log_scalars.values():
            history.max_length = min(history.max_length, MAX_HISTORY)


def step_values(runner: Runner, outputs: dict[str, Any] | None) -> dict[str, torch.Tensor]:
    """What a training step returned, and the norm of its gradients, as tensors on the device of the parameters."""
    norm = getattr(runner.optim_wrapper, 'grad_norm', None)
    values = {**(outputs or {}), **({} if norm is None else {'grad_norm': norm})}
    device = runner.optim_wrapper.optimizer.param_groups[0]['params'][0].device
    return {name: torch.as_tensor(value, device=device).detach() for name, value in values.items()}
