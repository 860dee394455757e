"""Random distortions of training images, as of another camera: crop, colors, blur and noise. None of them flips.

The random numbers come from `image_seed` and the name of the transform, so that within an epoch an image is the same
for all its texts and in every worker, and two transforms of one pipeline are independent. `img` is uint8 (H, W, 3).
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageEnhance, ImageFilter

from kovilt.datasets.transforms.resize import ResizeViLT
from kovilt.ranges import NotNegative, Range, Share, Size, check_arguments
from kovilt.registry import TRANSFORMS

_Strength = Annotated[float, Range(ge=0, le=1)]


class _Distortion(BaseTransform):
    augments = True  # its images cannot be cached or prepared

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng((results['image_seed'], zlib.crc32(type(self).__name__.encode())))
        results['img'] = self.distort(results['img'], rng)
        return results

    @abstractmethod
    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The distorted pixels, uint8 (h, w, 3); the input stays as it is."""


@TRANSFORMS.register_module()
class RandomCrop(_Distortion):
    """Keep a random window of the image, each of its sides at least `min_side` of the image's.

    Args:
        min_side: share of a side. What lies near the edges may be lost: 0.8 cuts off 10 % on average.
    """

    @check_arguments
    def __init__(self, *, min_side: Annotated[float, Range(gt=0, le=1)]) -> None:
        self.min_side = min_side

    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        kept = [max(1, round(length * rng.uniform(self.min_side, 1))) for length in pixels.shape[:2]]
        top, left = (int(rng.integers(length - part + 1)) for length, part in zip(pixels.shape, kept, strict=False))
        return pixels[top : top + kept[0], left : left + kept[1]]


@TRANSFORMS.register_module()
class ColorJitter(_Distortion):
    """Change brightness, contrast, saturation and hue, in random order, as torchvision's transform of this name does.

    Args:
        brightness, contrast, saturation: each is multiplied by a number from 1 - x to 1 + x.
        hue: the hue is turned by a number from -x to x of the circle. Keep it small where questions ask about colors.
    """

    @check_arguments
    def __init__(
        self,
        *,
        brightness: _Strength = 0.0,
        contrast: _Strength = 0.0,
        saturation: _Strength = 0.0,
        hue: Annotated[float, Range(ge=0, le=0.5)] = 0.0,
    ) -> None:
        self.factors = {
            ImageEnhance.Brightness: brightness,
            ImageEnhance.Contrast: contrast,
            ImageEnhance.Color: saturation,
        }
        self.hue = hue

    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = Image.fromarray(pixels)
        for number in rng.permutation(4):
            if number < 3:
                enhancer, strength = list(self.factors.items())[number]
                factor = rng.uniform(1 - strength, 1 + strength)
                image = enhancer(image).enhance(factor) if strength else image
            elif self.hue:
                image = _turn_hue(image, rng.uniform(-self.hue, self.hue))
        return np.asarray(image)


def _turn_hue(image: Image.Image, share: float) -> Image.Image:
    hue, saturation, value = image.convert('HSV').split()
    turned = (np.asarray(hue).astype(int) + round(share * 255)) % 256
    return Image.merge('HSV', (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert('RGB')


@TRANSFORMS.register_module()
class GaussianBlur(_Distortion):
    """Blur some of the images.

    Args:
        prob: share of the images.
        max_sigma: the radius is drawn from 0 to this share of the shorter side, so that it means the same at any
            resolution.
    """

    @check_arguments
    def __init__(self, *, prob: Share, max_sigma: Annotated[float, Range(ge=0, le=0.1)]) -> None:
        self.prob, self.max_sigma = prob, max_sigma

    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return pixels
        sigma = rng.uniform(0, self.max_sigma) * min(pixels.shape[:2])
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


@TRANSFORMS.register_module()
class GaussianNoise(_Distortion):
    """Add noise to some of the images, drawn for each pixel and channel.

    Args:
        prob: share of the images.
        max_std: the standard deviation is drawn from 0 to this many of the 256 levels.
    """

    @check_arguments
    def __init__(self, *, prob: Share, max_std: NotNegative) -> None:
        self.prob, self.max_std = prob, max_std

    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return pixels
        noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(0, self.max_std)
        return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


@TRANSFORMS.register_module()
class RandomResizeViLT(_Distortion):
    """Resize by ViLT's rule (`ResizeViLT`) to one of several sizes, each equally likely.

    Args:
        shorts: the shorter sides, in pixels.
        ratio: the longer side may be this many times the shorter one; ViLT: 1333 / 800.
        divisor: pixels; the patch size. A config may leave it out: it takes that of `model.encoder`.
    """

    @check_arguments
    def __init__(
        self, *, shorts: list[Size], ratio: Annotated[float, Range(ge=1, le=100)] = 1333 / 800, divisor: Size
    ) -> None:
        if not shorts:
            raise ValueError('shorts is []; it must hold at least one size')
        self.sizes = [ResizeViLT(short=short, long=int(ratio * short), divisor=divisor) for short in shorts]

    def distort(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.sizes[rng.integers(len(self.sizes))].transform({'img': pixels})['img']
