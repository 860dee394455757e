"""The fast bicubic filter gives Pillow's bytes, or is not used."""

import numpy as np
import pytest
from PIL import Image

from kovilt.datasets.transforms import resampling
from kovilt.datasets.transforms.resampling import resize_bicubic


def by_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def image(kind: str, width: int, height: int, chance: np.random.Generator) -> np.ndarray:
    noise = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {
        'noise': noise,
        'two tones': noise // 128 * 255,  # sums fall beyond 0 and 255, and exactly between two bytes
        'stripes': np.broadcast_to(noise[:1, :1], noise.shape) * (np.arange(width)[:, None] % 2 == 0),
        'flat': np.full_like(noise, chance.integers(256)),
    }[kind]


@pytest.mark.parametrize('kind', ['noise', 'two tones', 'stripes', 'flat'])
def test_every_byte_is_pillows(kind):
    assert resampling._order() is not None  # else Pillow would be compared with itself
    chance = np.random.default_rng(len(kind))
    sides = [1, 2, 3, 8, 32, 64, 96, 128, 200]
    for number in range(120):
        width, height, *size = (chance.choice(sides, 4) if number % 3 else chance.integers(1, 200, 4)).tolist()
        pixels = image(kind, width, height, chance)
        found = resize_bicubic(pixels, tuple(size))
        assert found.dtype == np.uint8 and np.array_equal(found, by_pillow(pixels, tuple(size))), (width, height, size)


@pytest.mark.parametrize('size', [(640, 480), (427, 640), (480, 270), (2000, 1100)])
def test_images_of_real_sizes_take_several_parts(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    for target in ((512, 384), (384, 544), (608, 352)):
        assert np.array_equal(resize_bicubic(pixels, target), by_pillow(pixels, target))


def test_sums_that_a_float_cannot_decide_are_decided(monkeypatch):
    """Without the second look at doubtful sums some bytes would be wrong: the test above sees what it is there for."""
    chance = np.random.default_rng(0)
    pixels = [image('two tones', 64, 48, chance) for _ in range(4)]
    sizes = [(32, 24), (96, 30), (16, 16), (48, 36)]
    expected = [by_pillow(*case) for case in zip(pixels, sizes, strict=True)]
    assert all(np.array_equal(resize_bicubic(*case), want) for *case, want in zip(pixels, sizes, expected, strict=True))
    monkeypatch.setattr(resampling, '_in_whole_numbers', lambda rows, weights: 7)
    wrong = [(resize_bicubic(*case) != want).sum() for *case, want in zip(pixels, sizes, expected, strict=True)]
    assert 0 < max(wrong)


def test_views_and_arrays_that_cannot_be_written_are_read():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    for view in (pixels, pixels[::2, 10:], pixels[:, ::-1], pixels[..., ::-1], pixels.transpose(1, 0, 2)):
        kept = view.copy()
        assert np.array_equal(resize_bicubic(view, (32, 16)), by_pillow(np.ascontiguousarray(view), (32, 16)))
        assert np.array_equal(view, kept)


def test_a_pillow_or_torch_of_another_kind_is_noticed(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    real, order = resampling._add_up, resampling._order.__wrapped__

    def without_bags(*arguments):
        raise AttributeError("'_OpNamespace' 'quantized' object has no attribute ...")

    def off_by_one(table, part, error, sums):
        found = real(table, part, error, sums)
        sums[0, 0, 0] ^= 1
        return found

    for broken in (without_bags, off_by_one):
        monkeypatch.setattr(resampling, '_add_up', broken)
        assert order() is None
    monkeypatch.setattr(resampling, '_order', lambda: None)
    assert np.array_equal(resize_bicubic(pixels, (32, 16)), by_pillow(pixels, (32, 16)))
