"""Averages of the weights, and how a validation that does not end gives the trained ones back."""

from __future__ import annotations

from mmengine import hooks as mmengine_hooks
from mmengine.runner import Runner

from kovilt.registry import HOOKS


@HOOKS.register_module()
class EMAHook(mmengine_hooks.EMAHook):
    """MMEngine's EMAHook, which knows whether the averages stand in the place of the trained weights.

    They do during a validation. Its arguments are those of MMEngine's.
    """

    is_swapped = False

    def _swap_ema_parameters(self) -> None:
        super()._swap_ema_parameters()
        self.is_swapped = not self.is_swapped


def restore_trained_weights(runner: Runner) -> None:
    """Put the trained weights back where a validation that does not end has left their averages."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and hook.is_swapped:
            hook._swap_ema_parameters()
