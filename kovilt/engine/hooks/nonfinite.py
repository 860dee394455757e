"""What a training does when a loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch import Tensor

from kovilt.batch import Batch
from kovilt.engine.optim import FiniteLossMixin
from kovilt.errors import RunFault
from kovilt.files import write_json
from kovilt.ranges import Count, check_arguments
from kovilt.registry import HOOKS


class RollBack(Exception):
    """Raised by a hook: the training loop is to go back to the latest checkpoint and to repeat the steps since."""


class _Step(NamedTuple):
    number: int  # counted from 1
    epoch: int
    batch: Sequence[Batch]  # only what names the samples: the patches of many steps would fill the memory
    finite: Tensor  # bool (), on the device


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Acts when the loss or the gradients of a step are NaN or infinite on any process, on all processes alike.

    The optimizer wrapper has already left the parameters as they were (`ViLTOptimWrapper`), so no checkpoint holds the
    bad step. Each process writes the samples of its batch into `nonfinite_step_<step>_rank<rank>.json` in the work
    folder. On a CPU this happens at the step; on CUDA with the next line of the log, so that the host does not wait
    for the device at every step.

    Args:
        action: 'stop' ends the run with exit code 1. 'skip' goes on, at most `max_skipped` times in a run. 'roll_back'
            loads the latest checkpoint and repeats the steps since, for faults of a machine; if the same step is bad
            again, it stops.
        max_skipped: for 'skip'.

    Raises:
        RunFault: the training stops.
    """

    priority = 'ABOVE_NORMAL'  # after StepInfoHook; before the hooks that log and save

    @check_arguments
    def __init__(self, action: Literal['stop', 'skip', 'roll_back'] = 'stop', max_skipped: Count = 10) -> None:
        self.action, self.max_skipped = action, max_skipped
        self._unchecked: list[_Step] = []
        self._rolled_back: set[int] = set()  # the steps that were the reason to go back

    def before_train(self, runner: Runner) -> None:
        self._unchecked.clear()
        self._interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)
        if not isinstance(runner.optim_wrapper, FiniteLossMixin):
            name = type(runner.optim_wrapper).__name__
            runner.logger.warning(f'{name} does not notice a loss that is not finite; ViLTOptimWrapper does')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        finite = getattr(runner.optim_wrapper, 'finite', None)
        if finite is None:
            return
        names: Any = [{key: batch[key] for key in ('image_id', 'sample_seed') if key in batch} for batch in data_batch]
        self._unchecked.append(_Step(runner.iter + 1, runner.epoch, names, finite))
        if not finite.is_cuda or (runner.iter + 1) % self._interval == 0:
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        steps, self._unchecked = self._unchecked, []
        if not steps:
            return
        for step, finite in zip(steps, torch.stack([step.finite for step in steps]).tolist(), strict=True):
            if not finite:
                self._act(runner, step)

    def _act(self, runner: Runner, step: _Step) -> None:
        path = Path(runner.work_dir, f'nonfinite_step_{step.number}_rank{runner.rank}.json')
        dataset = runner.train_dataloader.dataset
        records = []
        if hasattr(dataset, 'find_records'):  # a dataset of a plugin may have no records
            records = [record for batch in step.batch for record in dataset.find_records(batch, step.epoch)]
        content = {'step': step.number, 'epoch': step.epoch, 'samples': records}
        runner.files.write(path.name, lambda: write_json(path, content))
        fault = f'step {step.number}: the loss or the gradients are NaN or infinite; the samples stand in {path}'
        safe = 'no parameter was changed by it'
        info = runner.message_hub.runtime_info
        skipped = info.get('nonfinite_skipped', 0)
        if self.action == 'skip' and skipped < self.max_skipped:
            runner.message_hub.update_info('nonfinite_skipped', skipped + 1)
            runner.logger.warning(f'{fault}; skipped ({skipped + 1} of at most {self.max_skipped})')
            return
        if self.action == 'roll_back' and step.number not in self._rolled_back:
            self._rolled_back.add(step.number)
            runner.logger.warning(f'{fault}; going back to the latest checkpoint')
            raise RollBack
        again = {'skip': f' after {skipped} skipped steps', 'roll_back': ' again, after going back', 'stop': ''}
        raise RunFault(
            f'{fault}: stopped{again[self.action]}, {safe}. Lower the learning rate, set '
            'optim_wrapper.clip_grad or check the samples; then continue with --resume'
        )
