"""Images: read, augmented, resized by ViLT's rule or METER's; to the pixels of Pillow, with which both trained."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import ExifTags, Image, ImageEnhance, ImageOps

from kovilt.datasets.transforms.resampling import resize_bicubic
from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS

MOST_PIXELS = 178_956_970  # Pillow's own limit for images that look like an attack (1 GB at 6 bytes a pixel)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read an image of any mode as `img`, PIL RGB, upright as its EXIF says.

    Reads, whichever is there first: `img` (a PIL image or a uint8 array (H, W), (H, W, 3) or (H, W, 4)), `img_bytes`,
    or `img_path` (a path, or anything with `read_bytes`). Transparent parts are laid over white, 16-bit grey is scaled
    to 8 bits, the first frame of an animation counts.

    Args:
        as_array: give `img` as uint8 (H, W, 3) of the same pixels. That is quicker, for transforms that take arrays
            (CropSquare, Patchify, ResizeViLT).

    Raises:
        KoviltError: no such file, no image, truncated, or more than 178,956,970 pixels; names the file.
    """

    def __init__(self, *, as_array: bool = False) -> None:
        self.as_array = as_array

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        name = str(results.get('img_path') or 'image')
        image = results.get('img')
        if isinstance(image, np.ndarray):
            image = _from_array(image, name)
        content = None if image is not None else _content(results, name)
        try:
            image = Image.open(io.BytesIO(content)) if image is None else image
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            results['img'] = _to_pixels(image, content) if self.as_array else _to_rgb(image)
        except Image.DecompressionBombError:
            raise KoviltError(f'{name}: more than {MOST_PIXELS:,} pixels; make it smaller') from None
        except (
            Exception
        ) as error:  # on damaged files Pillow's decoders raise anything, also TypeError and OverflowError
            raise KoviltError(f'{name}: not a readable image ({_one_line(error)}); replace the file') from error
        return results


def _content(results: dict[str, Any], name: str) -> bytes:
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


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode == 'F' or image.mode.startswith('I'):
        return Image.fromarray(_to_bytes(image)).convert('RGB')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


def _to_pixels(image: Image.Image, content: bytes | None) -> np.ndarray:
    """uint8 (H, W, 3), the pixels of `_to_rgb`. OpenCV decodes JPEGs: Pillow's pixels take four bytes, and a copy."""
    plain = image.format == 'JPEG' and image.mode == 'RGB' and not _is_turned(image)
    # Without its end mark a JPEG is truncated, which OpenCV would fill with grey.
    if plain and content is not None and content.endswith(b'\xff\xd9') and _decoders_agree():
        pixels = _decode(content)
        if pixels is not None:
            return pixels
    return np.asarray(_to_rgb(image))


def _decode(content: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


@functools.cache
def _decoders_agree() -> bool:
    """Whether OpenCV gives Pillow's pixels, found out by trying: each brings a libjpeg-turbo of its own."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    if not hasattr(cv2, 'IMREAD_COLOR_RGB'):  # before OpenCV 4.11
        return False
    for progressive in (False, True):
        noise.save(file := io.BytesIO(), 'JPEG', quality=90, subsampling='4:2:0', progressive=progressive)
        if not np.array_equal(_decode(file.getvalue()), np.asarray(Image.open(file))):
            return False
    return True


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except (SyntaxError, ValueError, TypeError, KeyError, EOFError, OSError, struct.error):
        return False  # a damaged EXIF block says nothing about the pixels


def _to_bytes(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits as 0..255: 16 bits by their range (Pillow would clip at 255), others by what occurs."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    most = values.max(initial=0)
    top = 65535 if image.mode.startswith('I;16') or most > 255 else 255 if most > 1 or image.mode != 'F' else 1
    return (values.clip(0, top) * (255 / top)).round().astype(np.uint8)


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


@TRANSFORMS.register_module()
class ResizeViLT(BaseTransform):
    """ViLT's rule, pixel for pixel: short side to `short`, long side at most `long`, in `divisor`s.

    `img`, a PIL image or uint8 (H, W, 3), stays what it is. Pillow's bicubic filter; the aspect ratio changes by what
    the cutting takes. A departure: an image so long and thin that its short side would become 0 (beyond about 20 to 1,
    where ViLT fails) gets one `divisor`.

    Args:
        short: pixels; ViLT: 384.
        long: pixels; ViLT: int(1333 / 800 * 384) = 639, so 608 is the longest side that occurs.
        divisor: pixels; the patch size.
    """

    def __init__(self, *, short: int, long: int, divisor: int) -> None:
        if not 0 < divisor <= short <= long:
            raise ValueError(f'expecting divisor {divisor} <= short {short} <= long {long}')
        self.short, self.long, self.divisor = short, long, divisor

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results['img']
        size = image_size(image)
        target = self.target(*size)
        if size != target:
            results['img'] = _resize(image, target)
        return results

    def target(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that an image gets."""
        scale = self.short / min(width, height)
        sides = [self.short if side == min(width, height) else scale * side for side in (width, height)]
        if max(sides) > self.long:
            scale = self.long / max(sides)
            sides = [scale * side for side in sides]
        width, height = (max(int(side + 0.5) // self.divisor, 1) * self.divisor for side in sides)
        return width, height

    def targets(self) -> list[tuple[int, int]]:
        """Every (width, height) that `target` can give, sorted: the short side is full, or the long one is."""
        short, long = self.short // self.divisor, self.long // self.divisor
        pairs = [(short, side) for side in range(short, long + 1)] + [(side, long) for side in range(1, short + 1)]
        return sorted({(a * self.divisor, b * self.divisor) for pair in pairs for a, b in (pair, pair[::-1])})


def image_size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """(width, height) of what is handed on as `img`."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else image.size


def _resize(image: Image.Image | np.ndarray, size: tuple[int, int]) -> Image.Image | np.ndarray:
    if isinstance(image, np.ndarray):
        return resize_bicubic(image, size)
    if image.mode != 'RGB':
        return image.resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(resize_bicubic(np.asarray(image), size))


@TRANSFORMS.register_module()
class CropSquare(BaseTransform):
    """METER's rule: short side to `side` by Pillow's bicubic filter, then the square in the middle.

    What stands at the ends of a long image is lost, as in METER and CLIP. `img`, a PIL image or uint8 (H, W, 3),
    stays what it is.

    Args:
        side: pixels; METER fine-tunes on VQA with 576.
    """

    def __init__(self, *, side: int) -> None:
        if side < 1:
            raise ValueError(f'side {side} is less than 1')
        self.side = side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results['img']
        size = image_size(image)
        width, height = (int(self.side * length / min(size)) for length in size)
        left, top = round((width - self.side) / 2), round((height - self.side) / 2)
        image = _resize(image, (width, height))
        if isinstance(image, np.ndarray):
            results['img'] = image[top : top + self.side, left : left + self.side]
        else:
            results['img'] = image.crop((left, top, left + self.side, top + self.side))
        return results


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """RandAugment as ViLT fine-tunes with it: `num_ops` of 14 operations, each equally likely, may repeat, no flips.

    Left and right stay what they are, since questions ask for them. Drawn from `image_seed`, so an image looks the
    same to all its texts of an epoch, whichever worker reads it. Source: Cubuk et al. 2020, RandAugment; ViLT 2021,
    section 4.2 (N=2, M=9) with the list of the ViLT code: no inversion and no cut-outs. Stands before ResizeViLT, as in
    ViLT. `img` is a PIL image afterwards, also where it was an array.

    Args:
        num_ops: operations per image.
        magnitude: strength, 0 to 30.
    """

    augments = True  # so these images cannot be kept

    def __init__(self, *, num_ops: int = 2, magnitude: float = 9) -> None:
        if not 0 <= magnitude <= 30:
            raise ValueError(f'magnitude {magnitude} is not between 0 and 30')
        self.num_ops, self.magnitude = num_ops, magnitude

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        chance = np.random.default_rng(results['image_seed'])
        image = results['img']
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        for choice in chance.integers(len(_OPERATIONS), size=self.num_ops):
            operation, low, high = _OPERATIONS[choice]
            strength = low + (high - low) * self.magnitude / 30
            image = operation(image, strength, 1 if chance.random() < 0.5 else -1)
        results['img'] = image
        return results


def _affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def _enhance(enhancer: type) -> Callable[[Image.Image, float, int], Image.Image]:
    return lambda image, factor, sign: enhancer(image).enhance(factor)


def _solarize_add(image: Image.Image, addition: float, sign: int) -> Image.Image:
    return image.point([min(255, value + int(addition)) if value < 128 else value for value in range(256)] * 3)


# (operation(image, strength, sign), strength at magnitude 0, strength at magnitude 30); sign is -1 or 1.
_OPERATIONS: tuple[tuple[Callable[[Image.Image, float, int], Image.Image], float, float], ...] = (
    (lambda image, strength, sign: ImageOps.autocontrast(image), 0, 1),
    (lambda image, strength, sign: ImageOps.equalize(image), 0, 1),
    (lambda image, degrees, sign: image.rotate(sign * degrees), 0, 30),
    (lambda image, bits, sign: ImageOps.posterize(image, max(1, int(bits))), 0, 4),
    (lambda image, threshold, sign: ImageOps.solarize(image, threshold), 0, 256),
    (_solarize_add, 0, 110),
    (_enhance(ImageEnhance.Color), 0.1, 1.9),
    (_enhance(ImageEnhance.Contrast), 0.1, 1.9),
    (_enhance(ImageEnhance.Brightness), 0.1, 1.9),
    (_enhance(ImageEnhance.Sharpness), 0.1, 1.9),
    (lambda image, shear, sign: _affine(image, 1, sign * shear, 0, 0, 1, 0), 0, 0.3),
    (lambda image, shear, sign: _affine(image, 1, 0, 0, sign * shear, 1, 0), 0, 0.3),
    (lambda image, pixels, sign: _affine(image, 1, 0, sign * pixels, 0, 1, 0), 0, 100),
    (lambda image, pixels, sign: _affine(image, 1, 0, 0, 0, 1, sign * pixels), 0, 100),
)
