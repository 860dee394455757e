"""Images without colour."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from kovilt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Grey(BaseTransform):
    """Turn `img`, uint8 (H, W, 3), into shades of grey with three equal channels; place it after LoadImage."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        brightness = results['img'] @ np.array([0.299, 0.587, 0.114])  # (H, W), ITU-R 601
        results['img'] = np.repeat(brightness.round().astype(np.uint8)[:, :, None], 3, axis=2)
        return results
