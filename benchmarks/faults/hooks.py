"""The hook of every run of the suite: it records each step exactly, and injects the fault of a row at its moment."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.engine.checkpoints import unwrap_model
from kovilt.registry import HOOKS


@HOOKS.register_module()
class FaultHook(Hook):
    """Appends a line for each step to `<work folder>.trace`: loss, samples and a digest of all weights.

    A row plans its faults in the forked process, before the run begins. A process that a launcher starts takes its
    fault from the environment variable KOVILT_FAULT, a JSON list: event, step, rank, what `strike`
    takes, and a file that is created when the fault happens, so that it happens once.

    Attributes:
        plan: event ('before_step', 'after_step', 'validation') and step, counted from 1 -> what to do then.
    """

    priority = 'VERY_HIGH'  # the step is recorded before anything of it is saved
    plan: ClassVar[dict[tuple[str, int], Callable[[Runner], None]]] = {}

    def before_train(self, runner: Runner) -> None:
        if text := os.environ.get('KOVILT_FAULT'):
            event, step, rank, name, done = json.loads(text)
            if rank == runner.rank and not Path(done).exists():

                def once(runner: Runner) -> None:
                    Path(done).touch()
                    strike(name)

                self.plan[event, step] = once

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._act('before_step', runner, runner.iter + 1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        line = {
            'step': runner.iter + 1,
            'loss': float(outputs['loss']).hex() if outputs else '',
            'samples': [seed for batch in data_batch for seed in batch['sample_seed'].tolist()],
            'weights': digest_tensors(unwrap_model(runner.model).state_dict()),
        }
        suffix = f'.rank{runner.rank}' if runner.rank else ''
        with open(f'{runner.work_dir}.trace{suffix}', 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')
        self._act('after_step', runner, runner.iter + 1)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._act('validation', runner, runner.iter)

    def _act(self, event: str, runner: Runner, step: int) -> None:
        if (event, step) in self.plan:
            self.plan.pop((event, step))(runner)


def strike(how: str) -> None:
    """Send a signal to this process by its name, or do what `how` says: exception, exit, sleep, loop."""
    if how == 'exception':
        raise RuntimeError('planted by the fault suite')
    if how == 'exit':
        os._exit(3)
    if how == 'sleep':
        time.sleep(10_000)
    while how == 'loop':
        pass
    send(how)


def send(name: str) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), signal.Signals[name])


def digest_tensors(tensors: dict[str, Any]) -> str:
    """A digest of names and values."""
    digest = hashlib.blake2b(digest_size=12)
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
