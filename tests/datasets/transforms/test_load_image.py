import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from kovilt.datasets import LoadImage
from kovilt.errors import KoviltError


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = 'PNG', **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def load(content: bytes) -> np.ndarray:
    return LoadImage()({'img_bytes': content})['img']


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'CMYK', 'YCbCr', 'I;16', 'I', 'F'])
def test_every_mode_becomes_rgb(mode):
    kind = 'TIFF' if mode in ('CMYK', 'YCbCr', 'F', 'I') else 'PNG'
    grey = Image.fromarray(noise(20, 10, 1))
    image = grey.convert('I').convert('I;16') if mode == 'I;16' else grey.convert(mode)
    options = {'compression': 'tiff_lzw'} if mode == 'YCbCr' else {}  # Pillow 12 cannot read it uncompressed
    loaded = load(encoded(image, kind, **options))
    assert (loaded.dtype, loaded.shape) == (np.uint8, (10, 20, 3))


def test_colours_survive():
    pixels = noise(20, 10)
    assert np.array_equal(load(encoded(Image.fromarray(pixels))), pixels)
    palette = Image.fromarray(pixels).quantize(64)
    assert np.array_equal(load(encoded(palette)), np.asarray(palette.convert('RGB')))


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparent_parts_become_white(mode):
    image = Image.new('RGBA', (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    loaded = load(encoded(image.convert(mode)))
    assert (loaded[:, :2] == 0).all() and (loaded[:, 2:] == 255).all()


def test_sixteen_bits_are_scaled_by_their_range():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert load(encoded(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]
    dark = np.full((2, 2), 200, dtype=np.uint16)
    assert load(encoded(Image.fromarray(dark))).max() == 1


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
    assert loaded.shape[1::-1] == upright.size
    assert np.abs(loaded.astype(int) - np.asarray(upright)).max() < 8


def test_an_image_may_come_as_path_bytes_image_or_array(tmp_path):
    pixels = noise(8, 6)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    sources = [
        {'img_path': path}, {'img_path': str(path)}, {'img_bytes': path.read_bytes()}, {'img': Image.open(path)},
        {'img': pixels}, {'img': np.dstack([pixels, np.full((6, 8), 255, np.uint8)])},
    ]  # fmt: skip
    for source in sources:
        assert np.array_equal(LoadImage()(source)['img'], pixels)
    for grey in (pixels[:, :, 0], pixels[:, :, :1]):
        assert LoadImage()({'img': grey})['img'].shape == (6, 8, 3)


JPEGS = [
    encoded(Image.fromarray(noise(width, height)).resize((width * 3, height * 2)), 'JPEG', quality=quality, **options)
    for width, height, quality in ((20, 15, 95), (11, 7, 75), (1, 1, 90), (40, 3, 30))
    for options in ({}, {'subsampling': '4:4:4'}, {'subsampling': '4:2:2', 'progressive': True}, {'keep_rgb': True})
]


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert('RGB'))


def test_pixels_are_those_of_pillow(tmp_path):
    grey, exif = Image.fromarray(noise(20, 10, 1)), Image.Exif()
    exif[0x0112] = 6
    others = [
        encoded(grey, 'JPEG'), encoded(grey.convert('CMYK'), 'JPEG'), encoded(grey.convert('RGB'), 'JPEG', exif=exif),
        encoded(grey.convert('RGBA')), encoded(grey.convert('P')), encoded(grey.convert('RGB'), 'WEBP', lossless=True),
    ]  # fmt: skip
    for content in [*JPEGS, *others, JPEGS[0] + bytes(5)]:
        pixels = load(content)
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, by_pillow(content))
        assert pixels.flags.c_contiguous and pixels.flags.writeable
    path = tmp_path / 'a.jpg'
    path.write_bytes(JPEGS[0])
    for source in ({'img_path': path}, {'img': Image.open(path)}, {'img': load(JPEGS[0])}):
        assert np.array_equal(LoadImage()(source)['img'], load(JPEGS[0]))


def test_a_damaged_jpeg_is_what_pillow_reads_or_an_error():
    """Where Pillow gives up OpenCV may still decode an image; it never decodes another image than Pillow."""
    rng = np.random.default_rng(0)
    equal = 0
    for number in range(600):
        content = bytearray(JPEGS[number % len(JPEGS)])
        for place in rng.integers(0, min(len(content), rng.choice([60, 400, 10_000])), 2):
            content[place] = rng.integers(256)
        try:
            pixels = load(bytes(content))
        except KoviltError as error:
            assert '\n' not in str(error)
            pixels = None
        try:
            expected = by_pillow(bytes(content))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
        assert np.array_equal(pixels, expected)
        equal += 1
    assert equal > 200


@pytest.mark.parametrize('array', [noise(4, 4).astype(np.float32), noise(4, 4)[None], noise(4, 4, 2), noise(4, 4)[:0]])
def test_other_arrays_are_refused(array):
    with pytest.raises(KoviltError, match='uint8'):
        LoadImage()({'img': array})


def test_missing_and_unreadable_files_are_named(tmp_path):
    text = tmp_path / '고양이.jpg'
    text.write_text('no image')
    for path, message in (
        (tmp_path / 'b.jpg', 'no such file'),
        (text, 'not a readable image'),
        (tmp_path, 'is a folder'),
    ):
        with pytest.raises(KoviltError, match=message) as error:
            LoadImage()({'img_path': path})
        assert str(error.value).startswith(str(path)) and '\n' not in str(error.value)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF'])
def test_truncated_files_are_refused(kind):
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    assert load(content).shape == (64, 64, 3)
    for length in (
        *(int(len(content) * share) for share in (0, 0.02, 0.5, 0.9)),
        *((-1, -2) if kind == 'JPEG' else ()),
    ):
        with pytest.raises(KoviltError, match='not a readable image'):
            load(content[:length])


def test_damage_anywhere_is_an_image_or_a_named_error():
    rng = np.random.default_rng(0)
    contents = [encoded(Image.fromarray(noise(24, 16)), kind) for kind in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP')]
    for number in range(1000):
        content = bytearray(contents[number % len(contents)])
        for place in rng.integers(0, min(len(content), rng.choice([60, 400, 10_000])), 4):
            content[place] = rng.integers(256)
        try:
            assert load(bytes(content)).shape[2] == 3
        except KoviltError as error:
            assert '\n' not in str(error)
