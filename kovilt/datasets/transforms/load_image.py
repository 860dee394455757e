"""Reading images: every file format and color mode becomes uint8 RGB."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import ExifTags, Image, ImageOps

from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS

_JPEG_END = b'\xff\xd9'
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs (1 GB at 6 bytes a pixel)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read an image of any mode as `img`, uint8 RGB (H, W, 3), upright according to its EXIF orientation.

    Reads the first of these keys that exists: `img` (a PIL image or a uint8 array (H, W), (H, W, 3) or (H, W, 4)),
    `img_bytes`, or `img_path` (a path, or any object with `read_bytes`). Transparent parts are laid over white, 16-bit
    grey is scaled to 8 bits, and of an animation the first frame is read.

    Raises:
        KoviltError: the file is missing, not an image, truncated, or has more than 178,956,970 pixels; the message
            names the file.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        name = str(results.get('img_path') or 'image')
        image: Any = results.get('img')
        if isinstance(image, np.ndarray):
            image = _from_array(image, name)
        content = _read_content(results, name) if image is None else None
        try:
            image = Image.open(io.BytesIO(content)) if content is not None else image
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            results['img'] = _to_pixels(image, content)
        except Image.DecompressionBombError:
            raise KoviltError(f'{name}: more than {MAX_PIXELS:,} pixels; make it smaller') from None
        except Exception as error:  # Pillow raises anything on damaged files, also TypeError and OverflowError
            raise KoviltError(f'{name}: not a readable image ({_one_line(error)}); replace the file') from error
        return results


def image_size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """(width, height) of a PIL image or an array (H, W, ...)."""
    return (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size


def _read_content(results: dict[str, Any], name: str) -> bytes:
    if 'img_bytes' in results:
        return results['img_bytes']
    path = results['img_path']
    try:
        return (Path(path) if isinstance(path, str) else path).read_bytes()
    except FileNotFoundError:
        raise KoviltError(f'{name}: no such image') from None
    except OSError as error:
        raise KoviltError(f'{name}: the image cannot be read ({error.strerror})') from error


def _from_array(pixels: np.ndarray, name: str) -> Image.Image:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1 if pixels.ndim == 2 else 0
    if pixels.dtype != np.uint8 or 0 in pixels.shape or channels not in (1, 3, 4):
        raise KoviltError(f'{name}: an array of shape {pixels.shape} and type {pixels.dtype}; give uint8 (H, W, 3)')
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)


def _to_pixels(image: Image.Image, content: bytes | None) -> np.ndarray:
    """The pixels of an opened image, uint8 RGB (H, W, 3)."""
    is_plain_jpeg = image.format == 'JPEG' and image.mode == 'RGB' and not _is_rotated(image)
    # OpenCV would fill a truncated JPEG with grey; Pillow refuses it.
    if is_plain_jpeg and content is not None and content.endswith(_JPEG_END):
        # OpenCV decodes JPEGs to the same pixels as Pillow in half the time.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is not None:
            return pixels
    return np.array(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if _is_rotated(image):
        image = ImageOps.exif_transpose(image)
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode == 'F' or image.mode.startswith('I'):
        return Image.fromarray(_to_8_bits(image)).convert('RGB')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


def _is_rotated(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except (SyntaxError, ValueError, TypeError, KeyError, EOFError, OSError, struct.error):
        return False  # a damaged EXIF block does not damage the pixels


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits scaled to 0..255: 16 bits by their range (Pillow would clip at 255), others by content.

    A float image is taken to range to 1, 255 or 65535, whichever is the first that holds its largest value.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    largest = values.max(initial=0)
    if image.mode.startswith('I;16') or largest > 255:
        top = 65535
    else:
        top = 255 if largest > 1 or image.mode != 'F' else 1
    return (values.clip(0, top) * (255 / top)).round().astype(np.uint8)


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
