"""Images without colour."""

from typing import Any

from mmcv.transforms import BaseTransform

from kovilt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Grey(BaseTransform):
    """Turns `img` (PIL RGB) into shades of grey, still with three channels; place it after LoadImage."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results['img'] = results['img'].convert('L').convert('RGB')
        return results
