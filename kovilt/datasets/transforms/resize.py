"""Resizing by ViLT's rule or METER's, with torch's antialiased bicubic filter on uint8, which torchvision uses too.

The pixels equal those of transformers' default ViltImageProcessor; they differ from Pillow's by at most 2 grey levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform

from kovilt.ranges import Size, check_arguments
from kovilt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeViLT(BaseTransform):
    """Resize `img` by ViLT's rule: shorter side to `short`, longer side at most `long`, both multiples of `divisor`.

    `img` is uint8 (H, W, 3). Both sides are floored to multiples of `divisor`, which changes the aspect ratio a
    little. We depart from ViLT where its rule fails: in an image longer than about 20 to 1 the shorter side would
    become 0, and gets one `divisor` instead.

    Args:
        short: pixels; ViLT: 384.
        long: pixels; ViLT: int(1333 / 800 * 384) = 639, so that 608 is the longest side that occurs.
        divisor: pixels; the patch size. A config may leave it out: it takes that of `model.encoder`.
    """

    @check_arguments
    def __init__(self, *, short: Size, long: Size, divisor: Size) -> None:
        if not divisor <= short <= long:
            raise ValueError(f'expecting divisor {divisor} <= short {short} <= long {long}')
        self.short, self.long, self.divisor = short, long, divisor

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        height, width = results['img'].shape[:2]
        results['img'] = resize_bicubic(results['img'], self.target(width, height))
        return results

    def target(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) to which an image of this size is resized."""
        scale = self.short / min(width, height)
        sides = [self.short if side == min(width, height) else scale * side for side in (width, height)]
        if max(sides) > self.long:
            scale = self.long / max(sides)
            sides = [scale * side for side in sides]
        width, height = (max(int(side + 0.5) // self.divisor, 1) * self.divisor for side in sides)
        return width, height

    def targets(self) -> list[tuple[int, int]]:
        """Every (width, height) that `target` can return, sorted: one side is as large as `short` or `long` allows."""
        short, long = self.short // self.divisor, self.long // self.divisor
        pairs = [(short, side) for side in range(short, long + 1)] + [(side, long) for side in range(1, short + 1)]
        return sorted({(a * self.divisor, b * self.divisor) for pair in pairs for a, b in (pair, pair[::-1])})


@TRANSFORMS.register_module()
class CropSquare(BaseTransform):
    """Resize `img` by METER's rule: shorter side to `side`, then the square in the middle.

    The ends of a long image are lost, as in METER and CLIP. `img` is uint8 (H, W, 3).

    Args:
        side: pixels; METER fine-tunes on VQA with 576.
    """

    @check_arguments
    def __init__(self, *, side: Size) -> None:
        self.side = side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        (width, height), left, top = self._square(*results['img'].shape[1::-1])
        image = resize_bicubic(results['img'], (width, height))
        results['img'] = image[top : top + self.side, left : left + self.side]
        return results

    def kept_part(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is kept of an image of this size: left, top, right and bottom as shares of its width and height."""
        (width, height), left, top = self._square(width, height)
        return left / width, top / height, (left + self.side) / width, (top + self.side) / height

    def _square(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """(width, height) to which an image of this size is resized, and the left and the top of the square in it."""
        wide, high = (int(self.side * length / min(width, height)) for length in (width, height))
        return (wide, high), round((wide - self.side) / 2), round((high - self.side) / 2)


def resize_bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels uint8 (H, W, 3) resized to (width, height), antialiased.

    (H, W, 3) is the channels-last memory of (3, H, W): torch's fastest layout for uint8, used here without a copy.
    """
    if pixels.shape[1::-1] == size:
        return pixels
    plain = np.require(pixels, requirements=('C', 'W'))  # torch takes no negative strides and warns of read-only arrays
    images = torch.from_numpy(plain)[None].permute(0, 3, 1, 2)  # (1, 3, H, W)
    resized = F.interpolate(images, size=size[::-1], mode='bicubic', antialias=True)
    return resized[0].permute(1, 2, 0).numpy()
