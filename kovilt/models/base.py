"""What all models share: a training step over micro-batches, validation and prediction of a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from kovilt.batch import Batch, count_samples
from kovilt.models.memory import memory_errors
from kovilt.modules.packing import Output
from kovilt.registry import MODELS


def accumulate_step(
    model: nn.Module,
    parse_losses: Callable[[dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]],
    micro_batches: list[Batch],
    optim_wrapper: OptimWrapper,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """One optimizer step over the samples of all micro-batches; each is weighted by its share of the samples.

    The data loader cuts a batch into micro-batches, so accumulation saves memory and changes nothing else: batch size,
    number of steps, schedule and log values are those of the whole batch. `no_sync` holds back DDP's gradient exchange
    until the last micro-batch.
    """
    counts = [count_samples(batch) for batch in micro_batches]
    logs: dict[str, Tensor] = {}
    with memory_errors(micro_batches, 'training'):
        for i, batch in enumerate(micro_batches):
            weight = counts[i] / sum(counts) if sum(counts) else 1 / len(counts)
            last = i + 1 == len(micro_batches)
            with nullcontext() if last else no_sync():
                with optim_wrapper.optim_context(model):
                    loss, values = parse_losses(model(batch, mode='loss'))
                optim_wrapper.backward(loss * weight)
            for name, value in values.items():
                value = value.detach() * weight
                logs[name] = logs[name] + value if name in logs else value
        optim_wrapper.step()
    optim_wrapper.zero_grad()
    return logs


class KoviltModel(BaseModel):
    """An MMEngine model that takes batches of `kovilt.batch`. Subclasses write `losses` and `predict`.

    Args:
        encoder: config of a `ViLT`, `PrefixViLT` or `METER`.
        data_preprocessor: config of the preprocessor; None = `default_preprocessor`.

    Attributes:
        loss_names: the names of what `losses` returns, the same on every step and rank.
    """

    default_preprocessor = 'ViLTPreprocessor'
    loss_names: tuple[str, ...] = ()

    def __init__(
        self, encoder: dict[str, Any], data_preprocessor: dict[str, Any] | None, init_cfg: dict[str, Any] | None
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type=self.default_preprocessor)), init_cfg)
        self.encoder = MODELS.build(encoder)

    def forward(
        self, batch: Batch, mode: Literal['loss', 'predict'] = 'predict'
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """The losses of a batch of the loader, or the predictions for its pairs."""
        batch = self.data_preprocessor(batch, training=mode == 'loss')
        if mode == 'predict':
            return self.predict(batch)
        if len(batch['input_ids']):
            return self.losses(batch)
        # Every image of this rank's batch was broken: it still takes part in the step, with zeros.
        zero = torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        return {name: zero if 'loss' in name else zero.detach() for name in self.loss_names}

    def train_step(self, data: list[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulate_step(self, self.parse_losses, data, optim_wrapper)

    def val_step(self, data: list[Batch]) -> list[dict[str, Any]]:
        with memory_errors(data, 'evaluation'):
            return [prediction for batch in data for prediction in self(batch, mode='predict')]

    test_step = val_step

    def encode(self, batch: Batch, images: Any, output: Output, **options: Any) -> Any:
        """The states of the pairs of a preprocessed batch.

        images: from `encoder.embed_images`; output, options: as of `ViLT.forward`.
        """
        return self.encoder(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            images=images,
            grids=batch['grids'],
            image_index=batch['image_index'],
            output=output,
            **options,
        )

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses, whose names contain "loss", and other values to log, of a preprocessed batch."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """What the metric takes, of a preprocessed batch."""
