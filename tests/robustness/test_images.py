"""Images as they come from outside: read by a stated rule, or refused in one line, at once and in little memory."""

import io
import os
import struct
import time
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from kovilt.datasets import LoadImage
from kovilt.datasets.image_formats import exif_orientation, open_image
from kovilt.datasets.transforms import Patchify, ResizeViLT
from kovilt.errors import KoviltError
from tests.support.memory_limit import memory_limit


def noise(width, height, channels=3, dtype=np.uint8):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encoded(image, kind='PNG', **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def load(content, **options):
    return LoadImage(**options)({'img_bytes': content, 'img_path': 'a.jpg'})['img']


def refusal(content, **options):
    """The one line with which an image is refused, within a second."""
    start = time.monotonic()
    with pytest.raises(KoviltError) as caught:
        load(content, **options)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert message.startswith('a.jpg: ') and '\n' not in message
    return message


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png_of(width, height, *chunks, depth=8, color=0):
    header = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(chunks) + chunk(b'IEND', b'')


def tiff_of(width, height, compression=1, **tags):
    """A grey TIFF; `tags` are t<number>=(count, value)."""
    fields = {256: (1, width), 257: (1, height), 258: (1, 8), 259: (1, compression), 262: (1, 1), 277: (1, 1)}
    fields |= {int(name[1:]): value for name, value in tags.items()}
    entries = b''.join(struct.pack('<HHII', tag, 4, *value) for tag, value in sorted(fields.items()))
    return b'II*\0' + struct.pack('<IH', 8, len(fields)) + entries + bytes(4)


JPEG = encoded(noise(48, 32), 'JPEG')
GREY_JPEG = encoded(noise(48, 32, 1), 'JPEG')
PNG = encoded(noise(48, 32))


# B1 1-7, 32-36: damaged, missing


@pytest.mark.parametrize(
    'content, reason',
    [
        (b'', 'not a readable image (0 bytes)'),
        ('질문과 답'.encode(), 'not a readable image (none of JPEG, PNG, WEBP, BMP, GIF, TIFF)'),
        (JPEG[: len(JPEG) // 2], 'not a readable image ('),
        (JPEG[:-2], 'not a readable image ('),
        (JPEG[:2], 'not a readable image ('),
        (JPEG[:2] + JPEG[-2:], 'not a readable image ('),
        (PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], 'not a readable image ('),
        (PNG[:-30], 'not a readable image ('),
        (bytes(3000), 'not a readable image ('),
    ],
)
def test_damaged_files(content, reason):
    assert refusal(content).startswith(f'a.jpg: {reason}')


def test_a_jpeg_with_flipped_bytes_is_read_or_refused():
    content = bytearray(encoded(noise(200, 150), 'JPEG'))
    rng = np.random.default_rng(1)
    for place in rng.integers(700, len(content) - 2, 5):
        content[place] ^= 4
    assert load(bytes(content)).shape == (150, 200, 3)


def test_truncated_images_stay_refused():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize('place', ['none.jpg', '', 'pipe', 'zero', 'loop', 'a\0.jpg', 'nowhere', 'A.JPG'])
def test_a_place_without_an_image(tmp_path, place):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'zero').symlink_to('/dev/zero')
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'nowhere').symlink_to('gone.jpg')
    (tmp_path / 'a.jpg').write_bytes(JPEG)
    with pytest.raises(KoviltError) as caught:
        LoadImage()({'img_path': f'{tmp_path}/{place}'})
    assert str(caught.value).startswith(f'{tmp_path}/{place}: ') and '\n' not in str(caught.value)
    assert ("there is 'a.jpg'" in str(caught.value)) == (place == 'A.JPG')


# B1 8-12, 26: bombs


def scans(times, width=64, height=64):
    """A progressive JPEG whose last scan is repeated."""
    content = encoded(Image.new('RGB', (width, height), (3, 4, 5)), 'JPEG', progressive=True)
    last = content[content.rindex(b'\xff\xda') : -2]
    return content[:-2] + last * times + content[-2:]


def rle_bmp(width, height):
    data = (b'\x01\x02' * width + b'\0\0') * height + b'\0\1'
    sizes = struct.pack('<IiiHHIIiiII', 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b'BM' + struct.pack('<IHHI', 1078 + len(data), 0, 0, 1078) + sizes + bytes(1024) + data


def webp_header(width, height):
    data = b'\x2f' + struct.pack('<I', (width - 1) | (height - 1) << 14) + bytes(20)
    return b'RIFF' + struct.pack('<I', 12 + len(data)) + b'WEBPVP8L' + struct.pack('<I', len(data)) + data


BOMBS = {
    'a PNG of 100 megapixels in 12 KB': (lambda: encoded(Image.new('1', (10_000, 10_000))), 'megapixels'),
    'a PNG of 196 megapixels': (
        lambda: png_of(14_000, 14_000, chunk(b'IDAT', zlib.compress(bytes(14_000 * 1_751), 1)), depth=1),
        'megapixels',
    ),
    'a header alone': (lambda: png_of(65_500, 65_500), 'megapixels'),
    'a header of 2^62 pixels': (lambda: png_of(2**31 - 1, 2**31 - 1), 'megapixels'),
    'a GIF': (lambda: b'GIF89a' + struct.pack('<HH', 65_000, 65_000) + b'\0\0\0,' + bytes(20), 'megapixels'),
    'a BMP': (
        lambda: b'BM' + struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        'meg',
    ),
    # Pillow 12 creates no decoder for it, later versions read the header first.
    'a WebP': (lambda: webp_header(16_384, 16_384), 'decoder' if PIL.__version__ < '13' else 'megapixels'),
    'a JPEG': (lambda: JPEG.replace(struct.pack('>HH', 32, 48), struct.pack('>HH', 60_000, 60_000)), 'megapixels'),
    'text in a PNG': (
        lambda: png_of(8, 8, chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(20_000_000), 1))),
        'Decompressed data too large',
    ),
    'many texts in a PNG': (
        lambda: png_of(8, 8, *[chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(1_000_000), 1))] * 100),
        'Too much memory used in text chunks',
    ),
    'a color profile in a PNG': (
        lambda: png_of(8, 8, chunk(b'iCCP', b'a\0\0' + zlib.compress(bytes(20_000_000), 1))),
        'Decompressed data too large',
    ),
    'chunks': (lambda: PNG[:33] + chunk(b'abCd', b'') * 200_000 + PNG[33:], '100,000 chunks'),
    'segments': (lambda: JPEG[:2] + b'\xff\xe5\x00\x02' * 100_000 + JPEG[2:], '2,000 segments'),
    'a hundred EXIF blocks': (
        lambda: JPEG[:2] + (b'\xff\xe1\xfd\xe8Exif\0\0' + bytes(64_992)) * 100 + JPEG[2:],
        '20 EXIF segments',
    ),
    'a thousand scans': (lambda: scans(1000, 2000, 2000), 'scans; save it again'),
    'a run-length encoded BMP': (lambda: rle_bmp(2001, 2000), 'a compressed BMP of more than 4,000,000 pixels'),
    'a million tiles': (
        lambda: (
            tiff_of(1000, 1000, t322=(1, 1), t323=(1, 1), t324=(1_000_000, 8), t325=(1_000_000, 8)) + bytes(4_000_000)
        ),
        '100,000 strips or tiles',
    ),
    'a tile of 10^12 pixels': (
        lambda: tiff_of(1000, 1000, 5, t322=(1, 1 << 20), t323=(1, 1 << 20), t324=(1, 8), t325=(1, 50)),
        'decoder error',
    ),
    'a tile of 2^32 pixels': (
        lambda: tiff_of(1000, 1000, 8, t322=(1, 1 << 16), t323=(1, 1 << 16), t324=(1, 8), t325=(1, 50)),
        'decoder error',
    ),
    'a strip of 2^31 rows': (lambda: tiff_of(1000, 1000, 8, t278=(1, 1 << 31), t273=(1, 8), t279=(1, 50)), 'decoder'),
}


@pytest.mark.parametrize('name', BOMBS)
def test_a_bomb_is_refused_at_once_and_in_little_memory(name):
    make, reason = BOMBS[name]
    content = make()
    with memory_limit(200):
        assert reason in refusal(content)


def test_a_setting_raises_the_limit():
    content = encoded(Image.new('L', (2000, 1000)))
    assert 'are more than 1.5 megapixels; make it smaller, or set max_megapixels' in refusal(
        content, max_megapixels=1.5
    )
    assert load(content, max_megapixels=2).shape == (1000, 2000, 3)
    with pytest.raises(KoviltError, match='10 x 10 pixels are more than'):
        LoadImage(max_megapixels=1e-5)({'img': noise(10, 10)})
    for wrong in (0, -1, float('nan')):
        with pytest.raises(ValueError, match='max_megapixels'):
            LoadImage(max_megapixels=wrong)


def test_images_above_the_limits_of_pillow_can_be_allowed(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert load(PNG, max_megapixels=0.0016).shape == (32, 48, 3)


def test_real_files_have_fewer_parts_than_the_limits():
    exif = Image.Exif()
    exif[0x010E] = 'x' * 60_000
    for content in (
        encoded(noise(600, 400), 'JPEG', progressive=True, icc_profile=bytes(2_000_000), exif=exif),
        encoded(noise(600, 400), 'TIFF', compression='tiff_deflate', strip_size=600),
        encoded(noise(600, 400), compress_level=0),
        rle_bmp(200, 100),
        scans(20),
    ):
        assert load(content).shape[2] == 3


# B1 13-15: sizes


@pytest.mark.parametrize('size', [(1, 1), (31, 31), (1, 31), (3000, 20)])
def test_small_and_thin_images_are_read(size):
    results = LoadImage()({'img_bytes': encoded(Image.new('RGB', size))})
    results = Patchify(patch_size=32)(ResizeViLT(short=384, long=639, divisor=32)(results))
    assert len(results['patches']) == np.prod(results['grid']) >= 1


@pytest.mark.parametrize('size', [(5000, 1), (1, 5000), (201, 1)])
def test_lines_are_refused(size):
    assert 'one side is more than 200 times the other' in refusal(encoded(Image.new('RGB', size)))


# B1 16-28: modes


def test_modes_become_rgb_by_stated_rules():
    grey = noise(48, 32, 1)
    as_rgb = np.dstack([grey] * 3)
    assert np.array_equal(load(encoded(grey)), as_rgb)
    assert np.array_equal(load(encoded(Image.fromarray(grey).convert('LA'))), as_rgb)
    dots = Image.fromarray(grey).convert('1')
    assert np.array_equal(load(encoded(dots)), np.asarray(dots.convert('RGB')))
    assert np.array_equal(load(encoded((grey.astype(np.uint16) << 8) + grey)), as_rgb)  # 16 bits


def test_transparent_text_lies_over_white():
    image = Image.new('RGBA', (40, 30), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 20, 30))
    palette = image.convert('RGB').quantize(4)
    palette.info['transparency'] = palette.getpixel((30, 3))
    for content in (encoded(image), encoded(image, 'WEBP', lossless=True), encoded(palette)):
        pixels = load(content)
        assert (pixels[:, 20:] == 255).all()
        assert np.abs(pixels[:, :20].astype(int) - (200, 0, 0)).max() <= 1


def test_inverted_inks_of_adobe():
    red = Image.new('RGB', (32, 32), (250, 10, 10)).convert('CMYK')
    content = encoded(red, 'JPEG', quality=95)
    assert b'Adobe' in content
    assert np.abs(load(content).astype(int) - np.asarray(red.convert('RGB'))).max() < 8


@pytest.mark.parametrize(
    'values, expected',
    [
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 1_010_000, 2_000_000]], np.int32), [0, 129, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 128, 255]], np.float32), [0, 128, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 5e8, 1e9]], np.float32), [0, 128, 255]),
        (np.array([[7e5, 7e5, 7e5]], np.float32), [0, 0, 0]),
    ],
)
def test_deep_pixels_are_scaled_by_their_range(values, expected):
    assert load(encoded(values, 'TIFF'))[0, :, 0].tolist() == expected


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(value):
    assert 'NaN or infinite' in refusal(encoded(np.array([[0, value]], np.float32), 'TIFF'))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('turned', range(10))
def test_every_orientation_in_every_format(kind, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    content = encoded(noise(48, 32), kind, exif=exif)
    assert load(content).shape == ((48, 32, 3) if turned in (5, 6, 7, 8) else (32, 48, 3))
    assert exif_orientation(open_image(content)) == (turned if 1 < turned < 9 else 1)


@pytest.mark.parametrize(
    'block', [b'', b'II*\0', b'II*\0\xff\xff\xff\xff', bytes(100), b'MM\0*\0\0\0\x08\xff\xff', b'x' * 60_000]
)
def test_a_damaged_exif_block_does_not_matter(block):
    segment = b'\xff\xe1' + struct.pack('>H', len(block) + 8) + b'Exif\0\0' + block
    assert np.array_equal(load(JPEG[:2] + segment + JPEG[2:]), load(JPEG))
    assert np.array_equal(load(PNG[:33] + chunk(b'eXIf', block) + PNG[33:]), load(PNG))


def test_an_orientation_in_a_text_of_a_png():
    text = PngImagePlugin.PngInfo()
    text.add_text('Raw profile type exif', '\nexif\n20\nzz')
    assert load(encoded(noise(48, 32), pnginfo=text)).shape == (32, 48, 3)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'TIFF', 'PNG'])
def test_of_many_frames_the_first_is_read(kind):
    frames = [Image.new('RGB', (16, 16), (number % 256, 80, 0)) for number in range(500)]
    options = {'lossless': True} if kind == 'WEBP' else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (load(content)[0, 0] == (0, 80, 0)).all()


# B1 29-31: names


@pytest.mark.parametrize(
    'beginning, what',
    [
        (b'\0\0\0 ftypheic\0\0\0\0mif1heic', 'a HEIC image'),
        (b'\0\0\0 ftypmif1\0\0\0\0mif1heic', 'a HEIF image'),
        (b'\0\0\0\x0cJXL \r\n\x87\n', 'a JPEG XL image'),
        (b'\xff\x0a\x00\x90', 'a JPEG XL image'),
        (b'\0\0\0\x0cjP  \r\n\x87\n', 'a JPEG 2000 image'),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', 'an SVG drawing'),
        (b'%PDF-1.7\n', 'a PDF document'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n', 'a PostScript document'),
        (b'<!DOCTYPE html><title>404</title>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'a pointer of Git LFS'),
    ],
)
def test_other_formats_are_named_with_what_to_do(beginning, what):
    assert f'a.jpg: {what}' in refusal(beginning + bytes(200)) and '; ' in refusal(beginning)


def test_an_avif_image_is_named():
    assert 'an AVIF image; save it as JPEG or PNG' in refusal(encoded(noise(16, 16), 'AVIF'))


@pytest.mark.parametrize('kind', ['PPM', 'ICO', 'TGA', 'PCX', 'EPS'])
def test_formats_outside_the_list_are_refused(kind):
    refusal(encoded(noise(16, 16), kind))


@pytest.mark.parametrize('name, content', [('a.png', JPEG), ('a.jpg', PNG), ('사진', GREY_JPEG), ('a.heic', JPEG)])
def test_the_name_does_not_decide_the_format(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert np.array_equal(LoadImage()({'img_path': tmp_path / name})['img'], load(content))
