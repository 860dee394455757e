"""RandAugment as ViLT fine-tunes with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageEnhance, ImageOps

from kovilt.ranges import Range, check_arguments
from kovilt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """RandAugment as ViLT fine-tunes with it: `num_ops` of 14 operations, each equally likely, without flips.

    Left and right stay as they are, because questions ask about them. An operation may be sampled twice. The random
    numbers come from `image_seed`, so that within an epoch an image looks the same for all its texts and in every
    worker. `img` is uint8 (H, W, 3).

    Source: Cubuk et al. 2020, RandAugment; ViLT 2021, section 4.2 (N=2, M=9) with the operations of the ViLT code: no
    inversion and no cut-outs. In a pipeline it stands before ResizeViLT, as in ViLT.

    Args:
        num_ops: operations per image.
        magnitude: strength, 0 to 30.
    """

    augments = True  # its images cannot be cached or prepared

    @check_arguments
    def __init__(
        self, *, num_ops: Annotated[int, Range(ge=0, le=100)], magnitude: Annotated[float, Range(ge=0, le=30)]
    ) -> None:
        self.num_ops, self.magnitude = num_ops, magnitude

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(results['image_seed'])
        image = Image.fromarray(results['img'])
        for choice in rng.integers(len(_OPERATIONS), size=self.num_ops):
            operation, low, high = _OPERATIONS[choice]
            strength = low + (high - low) * self.magnitude / 30
            image = operation(image, strength, 1 if rng.random() < 0.5 else -1)
        results['img'] = np.array(image)
        return results


def _affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def _enhance(enhancer: type) -> Callable[[Image.Image, float, int], Image.Image]:
    return lambda image, factor, sign: enhancer(image).enhance(factor)


def _solarize_add(image: Image.Image, addition: float, sign: int) -> Image.Image:
    return image.point([min(255, value + int(addition)) if value < 128 else value for value in range(256)] * 3)


# (operation(image, strength, sign), strength at magnitude 0, strength at magnitude 30); sign is -1 or 1.
_OPERATIONS: tuple[tuple[Callable[[Image.Image, float, int], Image.Image], float, float], ...] = (
    (lambda image, strength, sign: ImageOps.autocontrast(image), 0, 1),
    (lambda image, strength, sign: ImageOps.equalize(image), 0, 1),
    (lambda image, degrees, sign: image.rotate(sign * degrees), 0, 30),
    (lambda image, bits, sign: ImageOps.posterize(image, max(1, int(bits))), 0, 4),
    (lambda image, threshold, sign: ImageOps.solarize(image, math.ceil(threshold)), 0, 256),
    (_solarize_add, 0, 110),
    (_enhance(ImageEnhance.Color), 0.1, 1.9),
    (_enhance(ImageEnhance.Contrast), 0.1, 1.9),
    (_enhance(ImageEnhance.Brightness), 0.1, 1.9),
    (_enhance(ImageEnhance.Sharpness), 0.1, 1.9),
    (lambda image, shear, sign: _affine(image, 1, sign * shear, 0, 0, 1, 0), 0, 0.3),
    (lambda image, shear, sign: _affine(image, 1, 0, 0, sign * shear, 1, 0), 0, 0.3),
    (lambda image, pixels, sign: _affine(image, 1, 0, sign * pixels, 0, 1, 0), 0, 100),
    (lambda image, pixels, sign: _affine(image, 1, 0, 0, 0, 1, sign * pixels), 0, 100),
)
