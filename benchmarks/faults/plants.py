"""Safeguards of kovilt that are removed to show that the suite notices: the row of each then finds silent failures.

They are removed in the processes of kovilt alone, not where the tries are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple


class Plant(NamedTuple):
    """A safeguard, and the row that shows what it prevents."""

    remove: Callable[[], None]  # called in a process before the command begins
    row: str
    tries: int  # of which at least one must be silent


def remove_finite_guard() -> None:
    import torch

    def say_finite(values: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(values, dtype=torch.bool)

    replaced: Any = torch
    replaced.isfinite = replaced.Tensor.isfinite = say_finite


def remove_checksums() -> None:
    from kovilt.formats import checkpoint

    checkpoint.check_torch_file = lambda path: None


def remove_optimizer_state() -> None:
    from mmengine.optim import OptimWrapper

    OptimWrapper.load_state_dict = lambda self, state: None


def remove_lock() -> None:
    from kovilt.engine import runner

    runner.lock_work_dir = lambda folder, resume: nullcontext()


PLANTS = {
    'the check of losses and weights for NaN': Plant(remove_finite_guard, 'F13', 1),
    'the checksums of checkpoints': Plant(remove_checksums, 'F05', 8),
    "the optimizer's state in a resumed run": Plant(remove_optimizer_state, 'F01', 3),
    'the lock of the work folder': Plant(remove_lock, 'F23', 1),
}
