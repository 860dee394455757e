"""Cutting images into patches: from here on an image is its list of patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from kovilt.ranges import Size, check_arguments
from kovilt.registry import TRANSFORMS

NO_IMAGE = {'patches': np.zeros((0, 0), dtype=np.uint8), 'grid': (0, 0)}


@TRANSFORMS.register_module()
class Patchify(BaseTransform):
    """Cut `img`, uint8 (H, W, 3), into patches of p x p pixels.

    Gives `patches`, uint8 (rows * columns, 3 * p * p), and `grid`, (rows, columns). Patches run row by row. A patch
    holds its three channels one after the other, each row by row: the order of the flattened kernel of a patch
    convolution. Pixels stay uint8; the model's preprocessor normalizes them.

    Args:
        patch_size: p, pixels; the sides of the image must be multiples of it. A config may leave it out: it takes that
            of `model.encoder`.
    """

    @check_arguments
    def __init__(self, *, patch_size: Size) -> None:
        self.patch_size = patch_size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        pixels, p = results['img'], self.patch_size
        rows, columns = pixels.shape[0] // p, pixels.shape[1] // p
        if pixels.shape != (rows * p, columns * p, 3):
            raise ValueError(f'an image of shape {pixels.shape} cannot be cut into patches of {p} x {p} x 3')
        patches = pixels.reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3)  # (rows, columns, 3, p, p)
        results['patches'], results['grid'] = patches.reshape(rows * columns, 3 * p * p), (rows, columns)
        return results


def join_patches(patches: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Undo `Patchify`: patches uint8 (rows * columns, 3 * p * p) to pixels uint8 (H, W, 3)."""
    (rows, columns), p = grid, math.isqrt(patches.shape[1] // 3)
    pixels = patches.reshape(rows, columns, 3, p, p).transpose(0, 3, 1, 4, 2)  # (rows, p, columns, p, 3)
    return pixels.reshape(rows * p, columns * p, 3)


@TRANSFORMS.register_module()
class JoinPatches(BaseTransform):
    """Join `patches` into the image that Patchify cut: `img`, uint8 (H, W, 3).

    With it pixel transforms such as RandAugment can run on prepared data, between LoadPrepared and Patchify. They then
    see the resized image, while ViLT augments the original one.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results['img'] = join_patches(results['patches'], results['grid'])
        return results


@TRANSFORMS.register_module()
class LoadPrepared(BaseTransform):
    """Read the `patches` and `grid` of an image that kovilt prepare wrote; for a PreparedReader."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        place = results['img_path']
        if not hasattr(place, 'read_patches'):
            raise ValueError(f'{place}: not a prepared image; LoadPrepared works with a PreparedReader')
        results['patches'], results['grid'] = place.read_patches()
        return results


@TRANSFORMS.register_module()
class NoImage(BaseTransform):
    """Give no patches and grid (0, 0). As the only step of an image pipeline it makes the question-only baseline."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, **NO_IMAGE}
