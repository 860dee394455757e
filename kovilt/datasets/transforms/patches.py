"""From here on an image is its list of patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from kovilt.registry import TRANSFORMS

NO_IMAGE = {'patches': np.zeros((0, 0), dtype=np.uint8), 'grid': (0, 0)}


@TRANSFORMS.register_module()
class Patchify(BaseTransform):
    """Cut `img` (PIL RGB) into p x p patches: `patches` uint8 (rows * columns, 3*p*p) and `grid` (rows, columns).

    Patches run row by row; a patch holds its three channels one after the other, each row by row, which is the order of
    the flattened kernel of a patch convolution. Pixels stay bytes; the model's preprocessor normalises them.

    Args:
        patch_size: p, pixels. The sides of the image must be multiples of it.
    """

    def __init__(self, *, patch_size: int) -> None:
        self.patch_size = patch_size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        pixels, p = np.asarray(results['img']), self.patch_size  # (H, W, 3)
        rows, columns = pixels.shape[0] // p, pixels.shape[1] // p
        if pixels.shape != (rows * p, columns * p, 3):
            raise ValueError(f'an image of shape {pixels.shape} cannot be cut into patches of {p} x {p} x 3')
        patches = pixels.reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3)  # (rows, columns, 3, p, p)
        results['patches'], results['grid'] = patches.reshape(rows * columns, 3 * p * p), (rows, columns)
        return results


def join_patches(patches: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The pixels uint8 (H, W, 3) that `Patchify` cut into `patches` uint8 (rows * columns, 3*p*p)."""
    (rows, columns), p = grid, math.isqrt(patches.shape[1] // 3)
    pixels = patches.reshape(rows, columns, 3, p, p).transpose(0, 3, 1, 4, 2)  # (rows, p, columns, p, 3)
    return pixels.reshape(rows * p, columns * p, 3)


@TRANSFORMS.register_module()
class JoinPatches(BaseTransform):
    """What Patchify has cut, as an image again: `img` (PIL RGB) of `patches` and `grid`, pixel for pixel.

    Between LoadPrepared and Patchify stand transforms of pixels, such as RandAugment: there on the resized image,
    while ViLT augments the original one.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results['img'] = Image.fromarray(join_patches(results['patches'], results['grid']))
        return results


@TRANSFORMS.register_module()
class LoadPrepared(BaseTransform):
    """Take the `patches` and `grid` that tools/data/prepare.py has made of an image; for the Prepared... datasets."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        place = results['img_path']
        if not hasattr(place, 'read_patches'):
            raise ValueError(f'{place}: an image that was not prepared; LoadPrepared is for PreparedVQA and its like')
        results['patches'], results['grid'] = place.read_patches()
        return results


@TRANSFORMS.register_module()
class NoImage(BaseTransform):
    """Instead of an image: no patches, grid (0, 0). Alone in an image pipeline it makes the question-only baseline."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, **NO_IMAGE}
