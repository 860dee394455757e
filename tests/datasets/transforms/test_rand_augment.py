import numpy as np
import pytest
import torch

from kovilt.datasets import RandAugment


def augment(seed: int, image: np.ndarray, num_ops: int = 2) -> np.ndarray:
    return RandAugment(num_ops=num_ops, magnitude=9)({'img': image, 'image_seed': seed})['img']


def test_augmentation_depends_on_the_seed_alone():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    first = [augment(seed, image) for seed in range(40)]
    np.random.seed(5)
    torch.manual_seed(5)
    assert all(np.array_equal(augment(seed, image), once) for seed, once in enumerate(first))
    assert len({once.tobytes() for once in first}) > 25
    assert all(once.shape == (30, 40, 3) for once in first)


def test_every_operation_has_the_strength_of_the_paper():
    """At magnitude 9 of 30: 1 bit, threshold 76.8, 9 degrees, 30 pixels, factor 0.64; shown on a flat color."""
    flat = np.full((40, 40, 3), (100, 50, 200), dtype=np.uint8)
    outcomes = set()
    for seed in range(200):
        outcomes |= set(map(tuple, np.unique(augment(seed, flat, num_ops=1).reshape(-1, 3), axis=0).tolist()))
    assert (0, 0, 128) in outcomes  # posterised to one bit
    assert (155, 50, 55) in outcomes  # solarised: 100 and 200 lie above 76.8
    assert (133, 83, 200) in outcomes  # 33 added below 128
    assert (64, 32, 128) in outcomes  # brightness 0.64
    assert (0, 0, 0) in outcomes  # what turning, shearing and shifting leave empty


def test_a_shift_is_thirty_pixels_either_way_and_never_a_flip():
    ramp = np.tile(np.arange(1, 101, dtype=np.uint8), (100, 1))
    image = np.repeat(ramp[:, :, None], 3, axis=2)
    results = [augment(seed, image, num_ops=1)[50, :, 0] for seed in range(300)]
    assert any((row[:70] == ramp[0, 30:]).all() for row in results)
    assert any((row[30:] == ramp[0, :70]).all() for row in results)
    assert not any((row == ramp[0, ::-1]).all() for row in results)


def test_magnitudes_beyond_the_scale_are_refused():
    with pytest.raises(ValueError, match='magnitude is 31; it must be at least 0 and at most 30'):
        RandAugment(num_ops=2, magnitude=31)
