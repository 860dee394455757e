import numpy as np
import pytest
from PIL import Image

from kovilt.datasets import CropSquare, LoadImage, ResizeViLT
from kovilt.datasets.transforms.resize import resize_bicubic


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_pillow(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Width first, as torch and Pillow before 13: Pillow 13 takes the other order for images of extreme shapes."""
    wide = image.resize((size[0], image.height), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize(size, Image.Resampling.BICUBIC))


VILT = {'short': 384, 'long': 639, 'divisor': 32}
SIZES = [(640, 480), (480, 640), (384, 384), (640, 384), (37, 500), (400, 33), (64, 1000)]


@pytest.mark.parametrize(
    ('settings', 'sizes'),
    [(VILT, SIZES), ({'short': 96, 'long': 159, 'divisor': 32}, np.random.default_rng(1).integers(60, 250, (200, 2)))],
    ids=['full size', '200 random sizes'],
)
def test_pixels_are_those_of_transformers_and_close_to_pillow(settings, sizes):
    """Equal to the default ViltImageProcessor, for every mode of which Pillow keeps all colors."""
    from transformers import ViltImageProcessor

    original = ViltImageProcessor(
        size={'shortest_edge': settings['short']}, do_rescale=False, do_normalize=False, do_pad=False
    )
    resize = ResizeViLT(**settings)
    modes = ('RGB', 'L', 'P', '1', 'CMYK', 'YCbCr', 'RGBA', 'LA', 'HSV')
    differences = []
    for number, (width, height) in enumerate(sizes):
        image = Image.fromarray(noise(width, height, seed=number)).convert(modes[number % len(modes)])
        (expected,) = original(image.convert('RGB'), return_tensors='pt')['pixel_values']
        resized = resize(LoadImage()({'img': image}))['img']
        assert np.array_equal(resized, expected.permute(1, 2, 0).numpy()), (image.mode, image.size)
        differences.append(np.abs(resized - by_pillow(image.convert('RGB'), resize.target(width, height)).astype(int)))
    assert max(difference.max() for difference in differences) <= 2
    assert np.mean([difference.mean() for difference in differences]) < 0.02


def test_sizes_are_those_of_the_original():
    from transformers.models.vilt.image_processing_pil_vilt import get_resize_output_image_size

    rng = np.random.default_rng(2)
    for width, height in rng.integers(1, 3000, (2000, 2)).tolist():
        expected = get_resize_output_image_size(np.zeros((3, height, width), bool), 384, 639, 32, 'channels_first')
        found = ResizeViLT(**VILT).target(width, height)
        assert found == tuple(max(side, 32) for side in expected[::-1])


@pytest.mark.parametrize('settings', [VILT, {'short': 64, 'long': 107, 'divisor': 16}])
def test_targets_lists_exactly_the_possible_sizes(settings):
    resize = ResizeViLT(**settings)
    longer = np.geomspace(500, 30_000, 2000).round().astype(int).tolist()
    found = {resize.target(*size) for side in longer for size in ((side, 500), (500, side))}
    assert resize.targets() == sorted(found)


@pytest.mark.parametrize('size', [(1, 1), (1, 2000), (2000, 1), (1000, 3)])
def test_the_thinnest_image_gets_a_row_of_patches(size):
    resized = ResizeViLT(**VILT)({'img': noise(*size)})['img']
    assert min(resized.shape[:2]) >= 32 and max(resized.shape[:2]) <= 608


def test_an_image_of_the_right_size_is_left_alone():
    image = np.zeros((384, 512, 3), np.uint8)
    assert ResizeViLT(**VILT)({'img': image})['img'] is image


def test_views_and_read_only_arrays_are_resized():
    pixels = noise(60, 50)
    pixels.flags.writeable = False
    for view in (pixels, pixels[::2, 10:], pixels[:, ::-1], pixels[..., ::-1], pixels.transpose(1, 0, 2)):
        assert np.array_equal(resize_bicubic(view, (32, 16)), resize_bicubic(view.copy(order='C'), (32, 16)))


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match='divisor 32 <= short 16'):
        ResizeViLT(short=16, long=64, divisor=32)


@pytest.mark.parametrize('size', [(41, 30), (30, 47), (20, 20), (7, 90)])
def test_the_middle_square_is_the_one_that_meter_crops(size):
    """METER's transform: equal to it on tensors, within 2 grey levels on Pillow images."""
    import torch
    from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize

    meter = Compose([Resize(24, InterpolationMode.BICUBIC, antialias=True), CenterCrop(24)])
    pixels = noise(*size)
    found = CropSquare(side=24)({'img': pixels})['img']
    assert np.array_equal(found, meter(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy())
    assert np.abs(found.astype(int) - np.asarray(meter(Image.fromarray(pixels)))).max() <= 2


@pytest.mark.parametrize('size', [(50, 30), (30, 50), (40, 40), (31, 500)])
def test_the_part_that_a_crop_keeps_is_told(size):
    """Cutting that part out first changes nothing but the rounding."""
    width, height = size
    left, top, right, bottom = CropSquare(side=24).kept_part(width, height)
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    assert (
        (right - left) * width == pytest.approx((bottom - top) * height, rel=0.05) == pytest.approx(min(size), rel=0.05)
    )
    assert left + right == pytest.approx(1, abs=0.05) and top + bottom == pytest.approx(1, abs=0.05)


def test_a_square_has_a_side():
    with pytest.raises(ValueError, match='side is 0; it must be at least 1'):
        CropSquare(side=0)
