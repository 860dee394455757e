"""Opens the bytes of an image that comes from outside, after checks that cost no decoding.

Pillow and its C libraries are safe against overruns, but a small file can make them allocate gigabytes or work for
minutes: a header that states 65,500 x 65,500 pixels, millions of empty parts, thousands of scans. `open_image` counts
these first. Its limits are far above what cameras and programs write.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator

from PIL import ExifTags, Image, UnidentifiedImageError

from kovilt.errors import KoviltError

MAX_MEGAPIXELS = 50  # by default; 0.2 GB once decoded. Cameras of phones write 12 to 50
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF')
_MAX_RATIO = 200  # longer side to shorter side; a patch of a thinner image shows nothing
_MAX_PARTS = 100_000  # chunks of a PNG, strips or tiles of a TIFF: 0.6 s for Pillow; a PNG of 200 MB has 25,000
_MAX_SEGMENTS = 2_000  # of a JPEG before its pixels: as many as a depth map of 100 MB takes
_MAX_EXIF_SEGMENTS = 20  # Pillow joins them, in quadratic time; cameras write 1
_MAX_SCANNED = 1_000_000_000  # pixels times scans of a JPEG: 2 s; progressive files have 10 scans
_MAX_RLE_PIXELS = 4_000_000  # of a compressed BMP, which Pillow decodes in Python, in 4 s
_SCAN = re.compile(b'\xff\xda')  # the beginning of a scan
_STRIP_TAGS = (273, 279, 324, 325)  # of a TIFF: the places and sizes of its strips or tiles

# Files that are no images of these formats, by the bytes near their beginning, and what to do.
_SAVE = 'save it as JPEG or PNG'
_OTHER_FILES = {
    b'ftypavi': f'an AVIF image; {_SAVE}',
    b'ftyphei': f'a HEIC image; {_SAVE} (iPhone: Settings, Camera, Formats, Most Compatible)',
    b'ftyphev': f'a HEIC image; {_SAVE}',
    b'ftypmif1': f'a HEIF image; {_SAVE}',
    b'ftypmsf1': f'a HEIF image; {_SAVE}',
    b'JXL \r\n': f'a JPEG XL image; {_SAVE}',
    b'\xff\x0a': f'a JPEG XL image; {_SAVE}',
    b'jP  \r\n': f'a JPEG 2000 image; {_SAVE}',
    b'8BPS': f'a Photoshop document; {_SAVE}',
    b'%PDF': f'a PDF document; {_SAVE}',
    b'%!PS': f'a PostScript document; {_SAVE}',
    b'<svg': f'an SVG drawing; {_SAVE}',
    b'git-lfs': 'a pointer of Git LFS in place of the image; run: git lfs pull',
    b'<html': 'a web page; download the image again',
    b'<!DOCTYPE html': 'a web page; download the image again',
    b'PK\x03\x04': 'a zip file; extract it',
}


def open_image(content: bytes, *, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Open an image file of the formats JPEG, PNG, WebP, BMP, GIF or TIFF; its pixels are not decoded yet.

    Raises:
        KoviltError: another format, too many pixels or parts, or a side more than 200 times the other. The message
            does not name the file.
        Exception: Pillow raises anything on damaged files.
    """
    if not content:
        raise KoviltError('not a readable image (0 bytes); replace the file')
    _check_parts(content)
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow must not refuse what the user has allowed
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(max_megapixels * 1e6))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of large images, which are refused below, and of damaged metadata
        try:
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        except UnidentifiedImageError:
            raise KoviltError(_describe_other(content[:1024])) from None
        except Image.DecompressionBombError:  # more than twice Pillow's own limit
            raise KoviltError(_too_large('the pixels of the image', max_megapixels)) from None
    check_size(*image.size, max_megapixels=max_megapixels)
    pixels = image.width * image.height
    if image.format in ('JPEG', 'MPO'):
        scans = sum(1 for _ in _SCAN.finditer(content))  # five times as fast as bytes.count
        if pixels * scans > _MAX_SCANNED:
            raise KoviltError(f'a JPEG of {scans:,} scans; save it again')
    if pixels > _MAX_RLE_PIXELS and image.tile[0][0] == 'bmp_rle':
        raise KoviltError(f'a compressed BMP of more than {_MAX_RLE_PIXELS:,} pixels; save it as PNG')
    return image


def check_size(width: int, height: int, *, max_megapixels: float = MAX_MEGAPIXELS) -> None:
    """KoviltError for too many pixels, or a side that is too long for the other."""
    if width * height > max_megapixels * 1e6:
        raise KoviltError(_too_large(f'{width} x {height} pixels', max_megapixels))
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise KoviltError(f'{width} x {height} pixels: one side is more than {_MAX_RATIO} times the other; crop it')


def _too_large(what: str, max_megapixels: float) -> str:
    return f'{what} are more than {max_megapixels:g} megapixels; make it smaller, or set max_megapixels of LoadImage'


def exif_orientation(image: Image.Image) -> int:
    """How an image is turned, 1 (upright) to 8; 1 if no such value is stated, as in a damaged EXIF block.

    Decodes nothing: a PNG that is not decoded yet does not tell of an EXIF block behind its pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of damaged blocks
            value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # that of PNG decodes the image
    except Exception:  # Pillow raises anything on a damaged block, which does not damage the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_parts(content: bytes) -> None:
    """KoviltError if a file has more parts than programs write."""
    if content.startswith(b'\x89PNG'):
        _check_count(_png_chunks(content), _MAX_PARTS, 'a PNG', 'chunks')
    elif content.startswith(b'\xff\xd8'):
        _check_count(_jpeg_segments(content), _MAX_SEGMENTS, 'a JPEG', 'segments')
        exif = (start for start in _jpeg_segments(content) if content.startswith(b'Exif', start + 4))
        _check_count(exif, _MAX_EXIF_SEGMENTS, 'a JPEG', 'EXIF segments')
    elif content.startswith((b'II', b'MM')):
        if max(_tiff_strips(content), default=0) > _MAX_PARTS:
            raise KoviltError(f'a TIFF of more than {_MAX_PARTS:,} strips or tiles; save it again')


def _check_count(parts: Iterator[int], limit: int, name: str, noun: str) -> None:
    if any(number >= limit for number, _ in enumerate(parts)):
        raise KoviltError(f'{name} of more than {limit:,} {noun}; save it again')


def _png_chunks(content: bytes) -> Iterator[int]:
    """Where each chunk begins."""
    at = 8
    while at < len(content):
        yield at
        at += 12 + int.from_bytes(content[at : at + 4], 'big')


def _jpeg_segments(content: bytes) -> Iterator[int]:
    """Where each segment before the pixels begins."""
    at = 2
    while content[at : at + 1] == b'\xff' and content[at + 1 : at + 2] != b'\xda':
        yield at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], 'big')


def _tiff_strips(content: bytes) -> Iterator[int]:
    """How many strips or tiles the first directory of a TIFF lists, once for each of its lists."""
    order, is_big = '<' if content.startswith(b'II') else '>', b'+' in content[2:4]
    first, count, entry = ('Q', 'Q', 'HHQQ') if is_big else ('I', 'H', 'HHII')
    try:
        (at,) = struct.unpack_from(order + first, content, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, content, at)
        at += struct.calcsize(order + count)
        for _ in range(min(entries, 1 << 16)):
            tag, _, values, _ = struct.unpack_from(order + entry, content, at)
            if tag in _STRIP_TAGS:
                yield values
            at += struct.calcsize(order + entry)
    except (struct.error, OverflowError):  # cut off, which Pillow tells
        return


def _describe_other(beginning: bytes) -> str:
    for mark, what in _OTHER_FILES.items():
        if mark in beginning:
            return what
    return f'not a readable image (none of {", ".join(_FORMATS)}); replace the file'
