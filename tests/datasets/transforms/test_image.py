import io

import numpy as np
import pytest
import torch
from PIL import Image

from kovilt.datasets import CropSquare, LoadImage, RandAugment, ResizeViLT
from kovilt.datasets.transforms import image as image_module
from kovilt.errors import KoviltError


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = 'PNG', **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def load(content: bytes) -> Image.Image:
    return LoadImage()({'img_bytes': content})['img']


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'CMYK', 'YCbCr', 'I;16', 'I', 'F'])
def test_every_mode_becomes_rgb(mode):
    kind = 'TIFF' if mode in ('CMYK', 'YCbCr', 'F', 'I') else 'PNG'
    grey = Image.fromarray(noise(20, 10, 1))
    image = grey.convert('I').convert('I;16') if mode == 'I;16' else grey.convert(mode)
    loaded = load(encoded(image, kind))
    assert (loaded.mode, loaded.size) == ('RGB', (20, 10))


def test_colours_survive():
    pixels = noise(20, 10)
    assert np.array_equal(np.asarray(load(encoded(Image.fromarray(pixels)))), pixels)
    palette = Image.fromarray(pixels).quantize(64)
    assert np.array_equal(np.asarray(load(encoded(palette))), np.asarray(palette.convert('RGB')))


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparent_parts_become_white(mode):
    image = Image.new('RGBA', (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    loaded = np.asarray(load(encoded(image.convert(mode))))
    assert (loaded[:, :2] == 0).all() and (loaded[:, 2:] == 255).all()


def test_sixteen_bits_are_scaled_by_their_range():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert np.asarray(load(encoded(Image.fromarray(values))))[0, :, 0].tolist() == [0, 1, 128, 255]
    dark = np.full((2, 2), 200, dtype=np.uint16)
    assert np.asarray(load(encoded(Image.fromarray(dark)))).max() == 1


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_stand_upright(orientation):
    upright = Image.fromarray(np.repeat(np.repeat(np.array([[0, 80], [160, 240]], np.uint8), 16, 0), 24, 1)).convert(
        'RGB'
    )
    steps = {  # how a camera holding the image so would have stored it
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = upright
    for step in steps.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load(encoded(stored, 'JPEG', quality=95, exif=exif))
    assert loaded.size == upright.size
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(upright)).max() < 8


def test_a_image_may_come_as_path_bytes_image_or_array(tmp_path):
    pixels = noise(8, 6)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    sources = [
        {'img_path': path}, {'img_path': str(path)}, {'img_bytes': path.read_bytes()}, {'img': Image.open(path)},
        {'img': pixels}, {'img': np.dstack([pixels, np.full((6, 8), 255, np.uint8)])},
    ]  # fmt: skip
    for source in sources:
        assert np.array_equal(np.asarray(LoadImage()(source)['img']), pixels)
    assert LoadImage()({'img': pixels[:, :, 0]})['img'].mode == 'RGB'
    assert LoadImage()({'img': pixels[:, :, :1]})['img'].mode == 'RGB'


def as_array(content: bytes) -> np.ndarray:
    return LoadImage(as_array=True)({'img_bytes': content})['img']


JPEGS = [
    encoded(Image.fromarray(noise(width, height)).resize((width * 3, height * 2)), 'JPEG', quality=quality, **options)
    for width, height, quality in ((20, 15, 95), (11, 7, 75), (1, 1, 90), (40, 3, 30))
    for options in ({}, {'subsampling': '4:4:4'}, {'subsampling': '4:2:2', 'progressive': True}, {'keep_rgb': True})
]


def test_an_array_has_the_pixels_of_the_image(tmp_path):
    assert image_module._decoders_agree()
    grey, exif = Image.fromarray(noise(20, 10, 1)), Image.Exif()
    exif[0x0112] = 6
    others = [
        encoded(grey, 'JPEG'), encoded(grey.convert('CMYK'), 'JPEG'), encoded(grey.convert('RGB'), 'JPEG', exif=exif),
        encoded(grey.convert('RGBA')), encoded(grey.convert('P')), encoded(grey.convert('RGB'), 'WEBP', lossless=True),
    ]  # fmt: skip
    for content in [*JPEGS, *others, JPEGS[0] + bytes(5)]:
        pixels = as_array(content)
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, np.asarray(load(content)))
    path = tmp_path / 'a.jpg'
    path.write_bytes(JPEGS[0])
    for source in ({'img_path': path}, {'img': Image.open(path)}, {'img': np.asarray(load(JPEGS[0]))}):
        assert np.array_equal(LoadImage(as_array=True)(source)['img'], as_array(JPEGS[0]))


@pytest.mark.parametrize('other', [lambda content: None, lambda content: np.zeros((3, 3, 3), np.uint8)])
def test_a_decoder_that_fails_or_differs_is_not_used(other, monkeypatch):
    expected = np.asarray(load(JPEGS[0]))
    monkeypatch.setattr(image_module, '_decode', other)
    monkeypatch.setattr(image_module, '_decoders_agree', image_module._decoders_agree.__wrapped__)
    assert np.array_equal(as_array(JPEGS[0]), expected)


def test_damage_is_the_same_image_or_an_error_of_either(capfd):
    """Of a JPEG that OpenCV reads and Pillow gives up there may be an image; never another image than Pillow's."""
    chance = np.random.default_rng(0)
    same = 0
    for round_ in range(600):
        content = bytearray(JPEGS[round_ % len(JPEGS)])
        for place in chance.integers(0, min(len(content), chance.choice([60, 400, 10_000])), 2):
            content[place] = chance.integers(256)
        try:
            pixels = as_array(bytes(content))
        except KoviltError as error:
            assert '\n' not in str(error)
            with pytest.raises(KoviltError):
                load(bytes(content))
            continue
        try:
            expected = np.asarray(load(bytes(content)))
        except KoviltError:
            continue
        assert np.array_equal(pixels, expected)
        same += 1
    assert same > 200


@pytest.mark.parametrize('array', [noise(4, 4).astype(np.float32), noise(4, 4)[None], noise(4, 4, 2), noise(4, 4)[:0]])
def test_other_arrays_are_refused(array):
    with pytest.raises(KoviltError, match='uint8'):
        LoadImage()({'img': array})


def test_missing_and_unreadable_files_are_named(tmp_path):
    text = tmp_path / '고양이.jpg'
    text.write_text('no image')
    for path, message in (
        (tmp_path / 'b.jpg', 'no such image'),
        (text, 'not a readable image'),
        (tmp_path, 'cannot be read'),
    ):
        with pytest.raises(KoviltError, match=message) as error:
            LoadImage()({'img_path': path})
        assert str(error.value).startswith(str(path)) and '\n' not in str(error.value)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF'])
def test_truncated_files_are_refused(kind):
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    assert load(content).size == (64, 64)
    for share in (0, 0.02, 0.5, 0.9):
        for read in (load, as_array):
            with pytest.raises(KoviltError, match='not a readable image'):
                read(content[: int(len(content) * share)])


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_damage_anywhere_is_a_image_or_a_named_error():
    chance = np.random.default_rng(0)
    contents = [encoded(Image.fromarray(noise(24, 16)), kind) for kind in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP')]
    for round_ in range(1000):
        content = bytearray(contents[round_ % len(contents)])
        for place in chance.integers(0, min(len(content), chance.choice([60, 400, 10_000])), 4):
            content[place] = chance.integers(256)
        try:
            assert load(bytes(content)).mode == 'RGB'
        except KoviltError as error:
            assert '\n' not in str(error)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_huge_images_are_refused_before_they_are_decoded(monkeypatch):
    with pytest.raises(KoviltError, match='more than 178,956,970 pixels'):
        load(encoded(Image.new('1', (20_000, 10_000))))
    monkeypatch.setattr(image_module, 'MOST_PIXELS', 99)
    with pytest.raises(KoviltError, match='more than 99 pixels'):
        LoadImage()({'img': noise(10, 10)})


VILT = {'short': 384, 'long': 639, 'divisor': 32}


SIZES = [(640, 480), (480, 640), (384, 384), (640, 384), (37, 500), (400, 33), (64, 1000)]


@pytest.mark.parametrize(
    ('settings', 'sizes'),
    [(VILT, SIZES), ({'short': 96, 'long': 159, 'divisor': 32}, np.random.default_rng(1).integers(60, 250, (200, 2)))],
    ids=['full size', '200 random sizes'],
)
def test_pixels_are_those_of_the_original(settings, sizes):
    """Every mode of which Pillow keeps all colours; transparency and 16 bits, which it would lose, are tested above."""
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

    original = ViltImageProcessorPil(
        size={'shortest_edge': settings['short']}, do_rescale=False, do_normalize=False, do_pad=False
    )
    modes = ('RGB', 'L', 'P', '1', 'CMYK', 'YCbCr', 'RGBA', 'LA', 'HSV')
    for number, (width, height) in enumerate(sizes):
        image = Image.fromarray(noise(width, height, seed=number)).convert(modes[number % len(modes)])
        (expected,) = original(image.convert('RGB'))['pixel_values']
        for load_ in (LoadImage(), LoadImage(as_array=True)):
            resized = ResizeViLT(**settings)(load_({'img': image}))['img']
            assert isinstance(resized, np.ndarray) == load_.as_array
            pixels = np.asarray(expected).transpose(1, 2, 0)
            assert np.array_equal(np.asarray(resized), pixels), (image.mode, image.size)


def test_sizes_are_those_of_the_original():
    from transformers.models.vilt.image_processing_pil_vilt import get_resize_output_image_size

    chance = np.random.default_rng(2)
    for width, height in chance.integers(1, 3000, (2000, 2)).tolist():
        expected = get_resize_output_image_size(np.zeros((3, height, width), bool), 384, 639, 32, 'channels_first')
        found = ResizeViLT(**VILT).target(width, height)
        assert found == tuple(max(side, 32) for side in expected[::-1])


@pytest.mark.parametrize('settings', [VILT, {'short': 64, 'long': 107, 'divisor': 16}])
def test_the_sizes_that_can_come_are_those_that_come(settings):
    resize = ResizeViLT(**settings)
    longer = np.geomspace(500, 30_000, 2000).round().astype(int).tolist()
    found = {resize.target(*size) for side in longer for size in ((side, 500), (500, side))}
    assert resize.targets() == sorted(found)


@pytest.mark.parametrize('size', [(1, 1), (1, 2000), (2000, 1), (1000, 3)])
def test_the_thinnest_image_gets_a_row_of_patches(size):
    resized = ResizeViLT(**VILT)({'img': Image.new('RGB', size)})['img']
    assert min(resized.size) >= 32 and max(resized.size) <= 608


def test_a_image_of_the_right_size_is_left_alone():
    for image in (Image.new('RGB', (512, 384)), np.zeros((384, 512, 3), np.uint8)):
        assert ResizeViLT(**VILT)({'img': image})['img'] is image


def test_a_transform_may_leave_another_mode():
    assert ResizeViLT(**VILT)({'img': Image.new('L', (640, 480))})['img'].mode == 'L'


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match='divisor 32 <= short 16'):
        ResizeViLT(short=16, long=64, divisor=32)


def augment(seed: int, image: Image.Image | np.ndarray, **options) -> np.ndarray:
    return np.asarray(RandAugment(**options)({'img': image, 'image_seed': seed})['img'])


def test_augmentation_belongs_to_the_seed_alone():
    image = Image.fromarray(noise(40, 30))
    first = [augment(seed, image) for seed in range(40)]
    np.random.seed(5)
    torch.manual_seed(5)
    assert all(np.array_equal(augment(seed, image), once) for seed, once in enumerate(first))
    assert len({once.tobytes() for once in first}) > 25
    assert all(once.shape == (30, 40, 3) for once in first)
    assert all(np.array_equal(augment(seed, np.asarray(image)), once) for seed, once in enumerate(first))


def test_every_operation_has_the_strength_of_the_paper():
    """At magnitude 9 of 30: 1 bit, threshold 76.8, 9 degrees, 30 pixels, factor 0.64; seen on a flat colour."""
    flat = Image.new('RGB', (40, 40), (100, 50, 200))
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
    image = Image.fromarray(ramp).convert('RGB')
    results = [augment(seed, image, num_ops=1)[50, :, 0] for seed in range(300)]
    assert any((row[:70] == ramp[0, 30:]).all() for row in results)
    assert any((row[30:] == ramp[0, :70]).all() for row in results)
    assert not any((row == ramp[0, ::-1]).all() for row in results)


def test_magnitudes_beyond_the_scale_are_refused():
    with pytest.raises(ValueError, match='magnitude 31'):
        RandAugment(magnitude=31)


@pytest.mark.parametrize('size', [(41, 30), (30, 47), (20, 20), (7, 90)])
def test_the_middle_square_is_the_one_that_meter_cuts(size):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = Image.fromarray(noise(*size))
    expected = Compose([Resize(24, InterpolationMode.BICUBIC), CenterCrop(24)])(image)
    for given in (image, np.asarray(image)):
        assert np.array_equal(np.asarray(CropSquare(side=24)({'img': given})['img']), np.asarray(expected))


def test_a_square_has_a_side():
    with pytest.raises(ValueError, match='side 0 is less than 1'):
        CropSquare(side=0)
