"""Dropout that a resumed run repeats."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seeds torch's global generator before every training step with (seed, step, rank).

    Only dropout samples from the global generator; all other random numbers come from generators of the samples. With
    a seed per step a resumed run continues bit for bit. Saving the generator's state instead would not suffice:
    validation and the data loader sample from it between the checkpoint and the next step.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        torch.manual_seed((runner.seed * 1_000_003 + runner.iter) * 65_537 + runner.rank)
