"""The learning rate over a run: a straight line up, a straight line down."""

from __future__ import annotations

from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from kovilt.errors import KoviltError
from kovilt.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupLinearLR(_ParamScheduler):
    """Linear warm-up to the optimizer's rate, then linear decay to zero (ViLT, section 4.2).

    `warmup` is a share of all steps when below 1, else a number of steps. Of S steps with W of warm-up, step s (from
    0) trains with (s + 1) / W of the rate while s < W, then with (S - s) / (S - W): the first step is never a step of
    nothing, the full rate is reached at step W - 1, and one step after the last it would be zero. The runner gives
    `end`, the number of steps, so the schedule follows the length of any run; it counts optimizer steps, so
    accumulation leaves it alone. A run that is resumed with another length goes on along the schedule of that length.
    """

    def __init__(
        self,
        optimizer,
        warmup: float = 0.1,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        if by_epoch or end == INF:
            raise KoviltError('param_scheduler: WarmupLinearLR counts steps; write by_epoch=False beside its type')
        if warmup < 0:
            raise KoviltError(
                f'param_scheduler: warmup is {warmup}; give a share of the run (0.1) or a number of steps'
            )
        self.total = end - begin
        self.warmup = min(round(warmup * self.total) if warmup < 1 else int(warmup), self.total)
        super().__init__(optimizer, 'lr', begin=begin, end=end, last_step=last_step, by_epoch=False, verbose=verbose)

    def state_dict(self) -> dict:
        """Where the run stands and the full rates; its length belongs to the config."""
        return {'_global_step': self._global_step, 'base_values': self.base_values}

    def load_state_dict(self, state_dict: dict) -> None:
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
