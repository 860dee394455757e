"""Reading images: every file format and color mode becomes uint8 RGB."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from kovilt.datasets.image_formats import MAX_MEGAPIXELS, check_size, exif_orientation, open_image
from kovilt.errors import KoviltError
from kovilt.files import read_bytes
from kovilt.registry import TRANSFORMS

_JPEG_END = b'\xff\xd9'
_TO_UPRIGHT = {  # EXIF orientation -> how the pixels are turned
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read an image of any mode as `img`, uint8 RGB (H, W, 3), upright according to its EXIF orientation.

    Reads the first of these keys that exists: `img` (a PIL image or a uint8 array (H, W), (H, W, 3) or (H, W, 4)),
    `img_bytes`, or `img_path` (a path, or any object with `read_bytes`). Transparent parts are laid over white, grey of
    more than 8 bits is scaled to 8, and of an animation or a document of several pages the first is read. The files are
    JPEG, PNG, WebP, BMP, GIF or TIFF, whatever their names end with.

    Args:
        max_megapixels: a larger image is refused before it is decoded: 50 megapixels take 0.4 GB.

    Raises:
        KoviltError: the file is missing, not an image, truncated, too large, or more than 200 times longer than wide;
            the message names the file.
    """

    def __init__(self, *, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        if not max_megapixels > 0:
            raise ValueError(f'max_megapixels={max_megapixels!r}: give a number above 0')
        self.max_megapixels = max_megapixels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        name = str(results.get('img_path') or 'image')
        image, content = results.get('img'), b''
        if image is None:
            content = _read_content(results)
        try:
            if isinstance(image, np.ndarray):
                image = _from_array(image)
            if image is None:
                image = open_image(content, max_megapixels=self.max_megapixels)
            check_size(*image.size, max_megapixels=self.max_megapixels)
            results['img'] = _to_pixels(image, content)
        except KoviltError as error:
            raise KoviltError(f'{name}: {error}') from error
        except Exception as error:  # Pillow raises anything on damaged files, also TypeError and OverflowError
            raise KoviltError(f'{name}: not a readable image ({_one_line(error)}); replace the file') from error
        return results


def image_size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """(width, height) of a PIL image or an array (H, W, ...)."""
    return (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size


def _read_content(results: dict[str, Any]) -> bytes:
    if 'img_bytes' in results:
        return results['img_bytes']
    path = results['img_path']
    return read_bytes(path, 'image') if isinstance(path, (str, os.PathLike)) else path.read_bytes()


def _from_array(pixels: np.ndarray) -> Image.Image:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1 if pixels.ndim == 2 else 0
    if pixels.dtype != np.uint8 or 0 in pixels.shape or channels not in (1, 3, 4):
        raise KoviltError(f'an array of shape {pixels.shape} and type {pixels.dtype}; give uint8 (H, W, 3)')
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)


def _to_pixels(image: Image.Image, content: bytes) -> np.ndarray:
    """The pixels of an opened image, uint8 RGB (H, W, 3)."""
    is_plain_jpeg = image.format == 'JPEG' and image.mode == 'RGB' and exif_orientation(image) == 1
    # OpenCV would fill a truncated JPEG with grey; Pillow refuses it.
    if is_plain_jpeg and content.endswith(_JPEG_END):
        # OpenCV decodes JPEGs to the same pixels as Pillow in half the time.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is not None:
            return pixels
    return np.array(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    orientation = exif_orientation(image)
    if orientation != 1:
        image = image.transpose(_TO_UPRIGHT[orientation])
    if image.mode == 'F' or image.mode.startswith('I'):
        return Image.fromarray(_to_8_bits(image)).convert('RGB')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        background = Image.new('RGB', image.size, 'white')
        background.paste(image, mask=image)
        return background
    return image if image.mode == 'RGB' else image.convert('RGB')


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits scaled to 0..255, where Pillow would clip: 16 bits by their range, others by content.

    Integers and floats are taken to range from 0 to 1 (floats alone), 255 or 65535, whichever is the first that holds
    all values; else their smallest value becomes 0 and their largest 255.
    """
    values = np.array(image, dtype=np.float32)  # enough for 8 bits
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise KoviltError('holds pixels that are NaN or infinite; save it as an 8-bit image')
    tops = [65535] if image.mode.startswith('I;16') else [1, 255, 65535] if image.mode == 'F' else [255, 65535]
    top = next((top for top in tops if 0 <= low and high <= top), None)
    if top is None:
        values -= low
        top = high - low or 1
    values *= 255 / top
    return values.round(out=values).astype(np.uint8)


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
