"""The learning rate over a run: linear warm-up, then linear decay."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch.optim import Optimizer

from kovilt.errors import KoviltError
from kovilt.ranges import Count, Index, NotNegative, check_arguments
from kovilt.registry import PARAM_SCHEDULERS

if TYPE_CHECKING:
    from kovilt.engine.runner import KoviltRunner


@PARAM_SCHEDULERS.register_module()
class WarmupLinearLR(_ParamScheduler):
    """Linear warm-up to the optimizer's learning rate, then linear decay to zero (ViLT, section 4.2).

    Of S steps with W steps of warm-up, step s (from 0) is trained with (s + 1) / W of the learning rate while s < W,
    then with (S - s) / (S - W) of it; the rate would be zero one step after the last. The runner gives the number of
    steps as `end`, so the schedule fits a run of any length, which MMEngine's LinearLR does not. A run that is resumed
    with another length continues along the schedule of the new length.

    Args:
        optimizer: the optimizer or its wrapper.
        warmup: a share of all steps if below 1, else a number of steps.
        begin, end, last_step, by_epoch, verbose: see MMEngine's `_ParamScheduler`.
    """

    @check_arguments
    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        warmup: NotNegative = 0.1,
        begin: Index = 0,
        end: Count = INF,
        last_step: Literal[-1] | Index = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if by_epoch or end == INF:
            raise KoviltError('param_scheduler: WarmupLinearLR counts steps; write by_epoch=False beside its type')
        self.total = end - begin
        self.warmup = min(round(warmup * self.total) if warmup < 1 else int(warmup), self.total)
        super().__init__(optimizer, 'lr', begin=begin, end=end, last_step=last_step, by_epoch=False, verbose=verbose)

    def state_dict(self) -> dict[str, Any]:
        """The current step and the full learning rates; the length of the run stays a matter of the config."""
        return {'_global_step': self._global_step, 'base_values': self.base_values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.last_step = min(self._global_step - self.begin, self.total - 1)
        if self.begin <= self._global_step < self.end:
            for group, value in zip(self.optimizer.param_groups, self._get_value(), strict=True):
                group['lr'] = value

    def _get_value(self) -> list[float]:
        step = self.last_step
        if step < self.warmup:
            factor = (step + 1) / self.warmup
        else:
            factor = (self.total - step) / (self.total - self.warmup)
        return [base * factor for base in self.base_values]


def follow_config(runner: KoviltRunner, values: Sequence[Mapping[str, Any]]) -> None:
    """Give the optimizer of a resumed run the values of its config, and bring the schedules to the run's step.

    The schedules take all steps of the run anew. Those of MMEngine compute a value from the one before, so there is no
    shorter way.

    Args:
        values: the parameter groups of the optimizer as the config makes them, before the checkpoint is loaded.
    """
    for group, new in zip(runner.optim_wrapper.param_groups, values, strict=True):
        initial = {key: value for key, value in new.items() if key.startswith('initial_')}  # set by the schedules
        group.update({key: value for key, value in new.items() if key != 'params' and key not in initial})
        group.update({key.removeprefix('initial_'): value for key, value in initial.items()})
        for key in [key for key in group if key.startswith('initial_')]:
            del group[key]
    if runner.param_schedulers is None:
        return
    schedules: Any = runner.build_param_scheduler(copy.deepcopy(runner.cfg.param_scheduler))
    epoch_length = len(runner.train_dataloader)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # MMEngine: schedules take a step before the optimizer
        for step in range(1, runner.iter + 1):
            for schedule in schedules:
                if not schedule.by_epoch or step % epoch_length == 0:
                    schedule.step()
    runner.param_schedulers = schedules
