from pathlib import Path

import numpy as np
import pytest
import torch

from kovilt.datasets import JoinPatches, LoadPrepared, NoImage, Patchify


def test_patches_equal_the_input_of_a_patch_convolution():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    results = Patchify(patch_size=4)({'img': pixels})
    assert results['grid'] == (2, 3) and results['patches'].dtype == np.uint8 and results['patches'].shape == (6, 48)
    weight = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    image = torch.from_numpy(pixels).double().permute(2, 0, 1)[None]
    expected = torch.nn.functional.conv2d(image, weight, stride=4)[0].flatten(1).T  # (6, 5), row by row
    torch.testing.assert_close(torch.from_numpy(results['patches']).double() @ weight.flatten(1).T, expected)


def test_an_image_must_be_made_of_whole_patches():
    with pytest.raises(ValueError, match=r'\(8, 13, 3\)'):
        Patchify(patch_size=4)({'img': np.zeros((8, 13, 3), np.uint8)})


def test_no_image_opens_none():
    results = NoImage()({'img_path': 'nowhere.jpg'})
    assert results['grid'] == (0, 0) and len(results['patches']) == 0


def test_joined_patches_are_the_image():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    results = Patchify(patch_size=4)({'img': pixels})
    np.testing.assert_array_equal(JoinPatches()(results)['img'], pixels)


def test_an_image_that_was_not_prepared_is_named():
    with pytest.raises(ValueError, match='a.jpg: not a prepared image'):
        LoadPrepared()({'img_path': Path('a.jpg')})
