"""The last step before the model: images move to the device and become numbers around zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.registry import MODELS


@MODELS.register_module()
class ViLTPreprocessor(BaseDataPreprocessor):
    """Move a batch and scale its patches from 0..255 to -1..1 (ViLT's mean and deviation of 0.5).

    Images travel as bytes, a quarter of their size as floats. The layout (`grids`, `image_index`, `image_id`,
    `text_mask`, `word_ids`, `sample_seed`) and the words stay on the host: the model lays out its packed rows there,
    so that no step waits for the device.
    """

    def __init__(self, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Returns the batch with `patches` float32 (sum P, 3*p*p) and `label` on the device."""
        data = dict(data)
        data['patches'] = data['patches'].to(self.device, non_blocking=self._non_blocking)
        data['patches'] = data['patches'].div(127.5).sub_(1)  # float32 from the first: no pass for the conversion
        if 'label' in data:
            data['label'] = data['label'].to(self.device, non_blocking=self._non_blocking)
        return data


@MODELS.register_module()
class METERPreprocessor(ViLTPreprocessor):
    """Move a batch, join the patches of its images, which have one size, and normalise them for the image encoder.

    METER's encoder wants pixels; that the loader has cut them into patches lets the same readers, caches and prepared
    data serve it.

    Args:
        mean: of the image encoder's training, one number a channel, for pixels of 0 to 1.
        std: likewise the deviation.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        # patches come scaled to -1..1
        self.register_buffer('mean', 2 * torch.tensor(mean).view(3, 1, 1) - 1, persistent=False)
        self.register_buffer('std', 2 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Returns the batch with `images` float32 (I, 3, H, W) in place of `patches`, and `label` on the device.

        Raises:
            KoviltError: images of several sizes, or texts without an image.
        """
        data = super().forward(data, training)
        data['images'] = (_join(data.pop('patches'), data['grids']) - self.mean) / self.std
        return data


def _join(patches: Tensor, grids: Tensor) -> Tensor:
    """Patches (I*R*C, 3*p*p) of I images whose grids (I, 2) are all (R, C) as pixels (I, 3, R*p, C*p)."""
    if not len(grids):
        return patches.new_zeros(0, 3, 0, 0)
    rows, columns = grids[0].tolist()
    if not rows or (grids != grids[0]).any():
        sizes = ', '.join(sorted({f'{rows} x {columns}' for rows, columns in grids.tolist()}))
        raise KoviltError(
            f'METER needs images of one size, but a batch has grids of {sizes} patches; put CropSquare before Patchify'
        )
    p = math.isqrt(patches.shape[1] // 3)
    pixels = patches.view(-1, rows, columns, 3, p, p).permute(0, 3, 1, 4, 2, 5)  # (I, 3, R, p, C, p)
    return pixels.reshape(-1, 3, rows * p, columns * p)
