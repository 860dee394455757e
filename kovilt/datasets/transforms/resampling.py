"""Pillow's bicubic filter, bit for bit, in about a third of its time.

A row of the result is a weighted sum of a few rows of the image, which is what torch's embedding bags compute of
bytes, many at a time (columns are rows of the turned image). Pillow adds in whole numbers, weights being multiples of
2^-22, and rounds to bytes after each of its two passes. The sums here are float32; where such a sum lies so near to the
middle between two bytes that its error could decide, about one time in 3,000, it is computed again in whole numbers.
Source: Resample.c of Pillow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

_BITS = 22  # Pillow's weights are multiples of 2^-22
_SUMS = 1 << 18  # float32 sums at a time, 1 MB: what the cache of a core holds
_SCALE_AND_BIAS = np.array([1, 0], dtype=np.float32).view(np.uint8)  # of a row's bytes, behind them: taken as they are


def resize_bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What `Image.resize(size, Image.Resampling.BICUBIC)` makes of an RGB image.

    Args:
        pixels: uint8 (H, W, 3).
        size: (width, height) of the result.

    Returns:
        uint8 (height, width, 3); equal to Pillow's, whose own filter is called where this one cannot show that it is.
    """
    height_first = _order()
    if height_first is None:
        return _by_pillow(pixels, size)
    return _resize(pixels, size, height_first(*pixels.shape[1::-1], *size))


def _by_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _resize(pixels: np.ndarray, size: tuple[int, int], height_first: bool) -> np.ndarray:
    width, height = size
    if height_first and len(pixels) != height:
        pixels = _resize_height(_table(pixels), height)
    if pixels.shape[1] == width:
        return pixels if len(pixels) == height else _resize_height(_table(pixels), height)
    if len(pixels) == height:
        return _resize_width(pixels, np.empty((height, width, 3), dtype=np.uint8))
    table = _empty_table(len(pixels), width)
    _resize_width(pixels, _pixels_of(table))
    return _resize_height(table, height)


def _resize_width(pixels: np.ndarray, resized: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) to (H, width, 3), some rows at a time; turned, as bags add up rows."""
    width = resized.shape[1]
    taps = _taps(pixels.shape[1], width, width)
    rows, doubtful = max(_SUMS // (3 * width), 1), []
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows]
        if start == 0 or len(part) < rows:
            table = _empty_table(part.shape[1], len(part))
            turned = np.empty((width, len(part), 3), dtype=np.uint8)
        cv2.transpose(part, _pixels_of(table))
        column, row, channel = _add_up(table, taps.parts[0], taps.error, turned)
        cv2.transpose(turned, resized[start : start + rows])
        doubtful.append((row + start, column, channel))
    row, column, channel = map(np.concatenate, zip(*doubtful, strict=True))
    there = pixels[row[:, None], taps.places[column], channel[:, None]]
    resized[row, column, channel] = _in_whole_numbers(there, taps.whole[column])
    return resized


def _resize_height(table: np.ndarray, height: int) -> np.ndarray:
    """The pixels of a table, (H, W, 3), to uint8 (height, W, 3), some of its rows at a time."""
    pixels = _pixels_of(table)
    width = pixels.shape[1]
    resized = np.empty((height, width, 3), dtype=np.uint8)
    taps = _taps(len(table), height, max(_SUMS // (3 * width), 1))
    start, doubtful = 0, []
    for part in taps.parts:
        stop = start + len(part.starts)
        row, column, channel = _add_up(table, part, taps.error, resized[start:stop])
        doubtful.append((row + start, column, channel))
        start = stop
    row, column, channel = map(np.concatenate, zip(*doubtful, strict=True))
    there = pixels[taps.places[row], column[:, None], channel[:, None]]
    resized[row, column, channel] = _in_whole_numbers(there, taps.whole[row])
    return resized


# A table holds rows of pixels as the bags want them: uint8 (rows, 3 * width + 8).


def _empty_table(rows: int, width: int) -> np.ndarray:
    table = np.empty((rows, 3 * width + len(_SCALE_AND_BIAS)), dtype=np.uint8)
    table[:, 3 * width :] = _SCALE_AND_BIAS
    return table


def _table(pixels: np.ndarray) -> np.ndarray:
    table = _empty_table(*pixels.shape[:2])
    _pixels_of(table)[...] = pixels
    return table


def _pixels_of(table: np.ndarray) -> np.ndarray:
    """uint8 (rows, width, 3): a view."""
    width = (table.shape[1] - len(_SCALE_AND_BIAS)) // 3
    return np.ndarray((len(table), width, 3), dtype=np.uint8, buffer=table, strides=(table.shape[1], 3, 1))


# What is added up.


class _Part(NamedTuple):
    """Some rows of a result as sums of rows of an image."""

    rows: Tensor  # int32: those of the first sum, those of the second, ...
    starts: Tensor  # int32: where each sum begins in `rows`
    weights: Tensor  # float32: of each of `rows`


class _Taps(NamedTuple):
    """All rows of a result as sums of at most T rows of an image each."""

    parts: list[_Part]
    places: np.ndarray  # int64 (sums, T): the rows, filled up with any
    whole: np.ndarray  # int64 (sums, T): the weights times 2^22, filled up with 0
    error: float  # bytes: a float32 sum is at most so far from the true one


@functools.lru_cache(maxsize=64)
def _taps(length: int, wanted: int, at_once: int) -> _Taps:
    """What makes `wanted` rows of `length`, for `at_once` of them at a time."""
    scale = length / wanted
    support = 2 * max(scale, 1.0)  # the filter reaches two rows to each side: the result's, or the image's if larger
    centres = (np.arange(wanted) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + support + 0.5).astype(np.int64), length) - first
    tap = np.arange(counts.max())
    weights = _bicubic((tap + first[:, None] - centres[:, None] + 0.5) * (1 / max(scale, 1.0)))
    weights[tap >= counts[:, None]] = 0
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # one after the other, as Pillow adds them up
    whole = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights)).astype(np.int64)
    places = np.minimum(tap + first[:, None], length - 1)
    parts = []
    for start in range(0, wanted, at_once):
        part = slice(start, start + at_once)
        there = tap < counts[part, None]
        parts.append(
            _Part(
                rows=torch.from_numpy(places[part][there].astype(np.int32)),
                starts=torch.from_numpy((np.cumsum(counts[part]) - counts[part]).astype(np.int32)),
                weights=torch.from_numpy((whole[part][there] / (1 << _BITS)).astype(np.float32)),
            )
        )
    # Each of T products and sums rounds by at most 2^-24 of what it is a part of; 2^-15 for the additions in `_add_up`.
    largest = 255 * np.abs(whole).sum(axis=1).max() / (1 << _BITS)
    return _Taps(parts, places, whole, float((len(tap) + 1) * largest * 2**-24 + 2**-15))


def _bicubic(x: np.ndarray) -> np.ndarray:
    """The filter at distances x, with a = -0.5."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _add_up(table: np.ndarray, part: _Part, error: float, sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Write the weighted sums of the rows of a table, rounded, into uint8 (sums, width, 3).

    Returns:
        Where they could be wrong: three arrays of indices into `sums`.
    """
    exact = torch.ops.quantized.embedding_bag_byte_rowwise_offsets.default(
        torch.from_numpy(table), part.rows, part.starts, False, 0, False, part.weights
    )
    exact = exact.clamp_(min=0).numpy()  # convertScaleAbs would take -3 for 3
    least = cv2.convertScaleAbs(exact, sums.reshape(exact.shape), 1, -error)
    most = cv2.convertScaleAbs(exact, None, 1, error)
    row, byte = np.divmod(_differing(least.reshape(-1), most.reshape(-1)), exact.shape[1])
    return row, *np.divmod(byte, 3)


def _differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two rows of bytes differ, which is nearly nowhere."""
    if len(one) % 8:
        return np.flatnonzero(one != other)
    eights = np.flatnonzero(one.view(np.uint64) != other.view(np.uint64))
    which, byte = np.nonzero(one.reshape(-1, 8)[eights] != other.reshape(-1, 8)[eights])
    return eights[which] * 8 + byte


def _in_whole_numbers(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums as Pillow makes them: bytes and their whole weights (n, T) to bytes (n,)."""
    return (((rows * weights).sum(axis=1) + (1 << (_BITS - 1))) >> _BITS).clip(0, 255)


@functools.cache
def _order() -> Callable[[int, int, int, int], bool] | None:
    """Which pass this Pillow makes first, by (width, height) of image and result; True = the height is resized first.

    Found out by trying. None: this Pillow does something else, or torch has no such bags.
    """
    chance = np.random.default_rng(0)
    tall, wide = (chance.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((90, 24), (25, 80)))
    for rule in (_tall_first, _width_first):
        try:
            if all(
                np.array_equal(_resize(pixels, size, rule(*pixels.shape[1::-1], *size)), _by_pillow(pixels, size))
                for pixels, size in ((tall, (20, 33)), (wide, (33, 30)))
            ):
                return rule
        except (AttributeError, RuntimeError):
            return None
    return None


def _tall_first(width: int, height: int, new_width: int, new_height: int) -> bool:
    """Since Pillow 13: the height first where it shrinks by more than twice of what the width does."""
    return height - new_height > max(0, 2 * (width - new_width))


def _width_first(width: int, height: int, new_width: int, new_height: int) -> bool:
    return False
