"""Preprocessors: the images of a batch move to the device and are normalised."""

from __future__ import annotations

from typing import Literal

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from kovilt.batch import Batch
from kovilt.ranges import Positive, check_arguments
from kovilt.registry import MODELS

_TARGETS: tuple[Literal['label', 'teacher_log_probs'], ...] = ('label', 'teacher_log_probs')


@MODELS.register_module()
class ViLTPreprocessor(BaseDataPreprocessor):
    """Move `patches`, labels and a teacher's scores to the device and scale the patches from 0..255 to -1..1, by ViLT's
    mean and std of 0.5.

    Patches travel as bytes, a quarter of the size of floats. The other tensors stay on the host, where the model
    computes the packed layout without waiting for the device.
    """

    def __init__(self) -> None:
        super().__init__(non_blocking=True)

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """Returns the batch with `patches` float32 (sum of P, 3*p*p), `label` and `teacher_log_probs` on the device."""
        batch = data.copy()
        if 'patches' in data:
            patches = data['patches'].to(self.device, non_blocking=self._non_blocking)
            batch['patches'] = patches.div(127.5).sub_(1)  # division converts to float32 in the same pass
        for key in _TARGETS:
            if key in data:
                batch[key] = data[key].to(self.device, non_blocking=self._non_blocking)
        return batch


@MODELS.register_module()
class METERPreprocessor(ViLTPreprocessor):
    """As `ViLTPreprocessor`, but with the normalisation of METER's image encoder.

    Args:
        mean: of the image encoder's training, one number a channel, for pixels of 0 to 1.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    @check_arguments
    def __init__(self, *, mean: tuple[float, float, float], std: tuple[Positive, Positive, Positive]) -> None:
        super().__init__()
        # For pixels of -1..1, as the patches have been scaled to.
        self.register_buffer('mean', 2 * torch.tensor(mean)[:, None] - 1, persistent=False)
        self.register_buffer('std', 2 * torch.tensor(std)[:, None], persistent=False)

    def forward(self, data: Batch, training: bool = False) -> Batch:
        batch = super().forward(data, training)
        channels = batch['patches'].unflatten(1, (3, -1))  # (sum of P, 3, p*p)
        batch['patches'] = ((channels - self.mean) / self.std).flatten(1)
        return batch
