"""What all kovilt models share: a step over micro-batches, and answering a batch without training."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.registry import MODELS


def accumulate_step(
    model: nn.Module,
    parse_losses: Callable[[dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]],
    micro_batches: list[Batch],
    optim_wrapper: OptimWrapper,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, Tensor]:
    """One optimizer step over the rows of all micro-batches; each weighs in by its share of the rows.

    The data loader cuts a batch into micro-batches, so accumulation is a matter of memory alone: batch size, number of
    steps, schedule and log lines are those of the whole batch. `no_sync` holds back DDP's gradient exchange until the
    last micro-batch.
    """
    rows = [len(batch['input_ids']) for batch in micro_batches]
    logs: dict[str, Tensor] = defaultdict(float)
    for i, batch in enumerate(micro_batches):
        share = rows[i] / sum(rows) if sum(rows) else 1 / len(rows)
        last = i + 1 == len(micro_batches)
        with nullcontext() if last else no_sync():
            with optim_wrapper.optim_context(model):
                loss, values = parse_losses(model(batch, mode='loss'))
            optim_wrapper.backward(loss * share)
        for name, value in values.items():
            logs[name] = logs[name] + value.detach() * share
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return dict(logs)


class KoviltModel(BaseModel):
    """An MMEngine model that takes kovilt's batches. Subclasses write `losses` and `predict`."""

    preprocessor = 'ViLTPreprocessor'  # the one that is built where a config names none

    def __init__(self, data_preprocessor: dict[str, Any] | None = None, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type=self.preprocessor)), init_cfg)

    def forward(self, batch: Batch, mode: Literal['loss', 'predict'] = 'predict') -> dict[str, Tensor] | list[dict]:
        """Losses of a batch that the loader made, or predictions for its rows."""
        batch = self.data_preprocessor(batch, training=mode == 'loss')
        if mode == 'predict':
            return self.predict(batch)
        if len(batch['input_ids']):
            return self.losses(batch)
        zero = sum(parameter.sum() for parameter in self.parameters()) * 0  # every image was broken: this rank still
        return {name: zero if 'loss' in name else zero.detach() for name in self.loss_names}  # takes part in the step

    def train_step(self, data: list[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulate_step(self, self.parse_losses, data, optim_wrapper)

    def val_step(self, data: list[Batch]) -> list[dict]:
        return [prediction for batch in data for prediction in self(batch, mode='predict')]

    test_step = val_step

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """The names of what `losses` returns, the same on every step and rank."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, whose names contain "loss", and what else is watched, of a batch that the preprocessor has seen."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[dict]:
        """What evaluation reads of a batch that the preprocessor has seen."""


def host(values: Tensor) -> list:
    """A tensor as Python numbers; bfloat16 and float16 as float32 first."""
    return (values.float() if torch.is_floating_point(values) else values).tolist()
