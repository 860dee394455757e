"""Dropout that a restart repeats."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook

from kovilt.registry import HOOKS


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seeds torch before every training step from (seed, step, rank).

    Dropout is the one thing in kovilt that draws from torch's global generator; every other chance belongs to a sample.
    Seeding each step makes a resumed run continue bit for bit, which saving the generator's state would not: validation
    and the data loader draw from it between the checkpoint and the next step.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        torch.manual_seed((runner.seed * 1_000_003 + runner.iter) * 65_537 + runner.rank)
