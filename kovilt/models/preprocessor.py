"""The last step before the model: pictures move to the device and become numbers around zero."""
from __future__ import annotations

from typing import Any

from mmengine.model import BaseDataPreprocessor


class ViLTPreprocessor(BaseDataPreprocessor):
    """Move a batch and scale its patches from 0..255 to -1..1 (ViLT's mean and deviation of 0.5).

    Pictures travel as bytes, a quarter of their size as floats. The layout (`grids`, `image_index`, `image_id`,
    `text_mask`, `word_ids`, `sample_seed`) and the words stay on the host: the model lays out its packed rows there,
    so that no step waits for the device.
    """

    def __init__(self, non_blocking: bool = True) -> None:
        super().__init__(non_blocking)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Returns the batch with `patches` float32 (sum P, 3*p*p) and `label` on the device."""
        data = dict(data)
        data['patches'] = data['patches'].to(self.device, non_blocking=self._non_blocking).float() / 127.5 - 1
        if 'label' in data:
            data['label'] = data['label'].to(self.device, non_blocking=self._non_blocking)
        return data
