"""Preprocessors: the images of a batch move to the device and are normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.registry import MODELS


@MODELS.register_module()
class ViLTPreprocessor(BaseDataPreprocessor):
    """Move `patches` and `label` to the device and scale the patches from 0..255 to -1..1 (ViLT's mean and std of 0.5).

    Patches travel as bytes, a quarter of the size of floats. The other tensors stay on the host, where the model
    computes the packed layout without waiting for the device.
    """

    def __init__(self, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """Returns the batch with `patches` float32 (sum of P, 3*p*p) and `label` on the device."""
        batch = data.copy()
        if 'patches' in data:
            patches = data['patches'].to(self.device, non_blocking=self._non_blocking)
            batch['patches'] = patches.div(127.5).sub_(1)  # division converts to float32 in the same pass
        if 'label' in data:
            batch['label'] = data['label'].to(self.device, non_blocking=self._non_blocking)
        return batch


@MODELS.register_module()
class METERPreprocessor(ViLTPreprocessor):
    """Join patches to images, which must have one size, and normalise them for METER's image encoder.

    That METER's images, too, come from the loader as patches lets the same datasets, caches and prepared data serve it.

    Args:
        mean: of the image encoder's training, one number a channel, for pixels of 0 to 1.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        # For pixels of -1..1, as the patches have been scaled to.
        self.register_buffer('mean', 2 * torch.tensor(mean).view(3, 1, 1) - 1, persistent=False)
        self.register_buffer('std', 2 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """Returns the batch with `images` float32 (I, 3, H, W) in place of `patches`, and `label` on the device.

        Raises:
            KoviltError: images of several sizes, or texts without an image.
        """
        batch = super().forward(data, training)
        batch['images'] = (_join_patches(batch['patches'], batch['grids']) - self.mean) / self.std
        del batch['patches']
        return batch


def _join_patches(patches: Tensor, grids: Tensor) -> Tensor:
    """Patches (I*R*C, 3*p*p) of I images whose grids (I, 2) are all (R, C), as pixels (I, 3, R*p, C*p)."""
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
