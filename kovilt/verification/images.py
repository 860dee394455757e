"""What can be wrong with one image by itself, found by many processes from headers, or by decoding each."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from kovilt.datasets.image_store import ZipMember
from kovilt.datasets.transforms.load_image import MAX_PIXELS, LoadImage
from kovilt.errors import KoviltError

Place = Path | ZipMember
Progress = Callable[[int, int], None]  # images done, images in all

TINY_SIDE = 32  # pixels; one patch of the paper's model
THIN_RATIO = 20  # long side to short; beyond it ResizeViLT no longer keeps the ratio
_USUAL_MODES = ('RGB', 'L', 'P')
_SUFFIXES = {'jpg': 'jpeg', 'jpe': 'jpeg', 'jfif': 'jpeg', 'tif': 'tiff', 'mpo': 'jpeg'}
_AT_ONCE = 64  # images that a process takes at a time


class ImageCheck(NamedTuple):
    """What was seen of an image: (code, what) of its faults, bytes of the file, and what can be counted.

    `digest` is that of the content where all of it was read anyway, else ''.
    """

    faults: list[tuple[str, str]]
    size: int
    digest: str
    form: tuple[str, str, int, int] | None  # format, mode, width, height


def check_image(place: Place, *, deep: bool) -> ImageCheck:
    """An image by its header; `deep` decodes it just as training does."""
    try:
        content = place.read_bytes() if deep or isinstance(place, ZipMember) else None
        size = os.stat(place).st_size if content is None else len(content)
    except FileNotFoundError:
        return ImageCheck([('image.missing', 'no such image')], 0, '', None)
    except (OSError, KoviltError) as error:
        return ImageCheck([('image.unreadable', str(error).removeprefix(f'{place}: '))], 0, '', None)
    digest = '' if content is None else _digest(content)
    if not size:
        return ImageCheck([('image.empty', 'a file of 0 bytes')], 0, digest, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(place if content is None else io.BytesIO(content)) as image:
                faults, form = list(_header_faults(image, place)), (image.format, image.mode, *image.size)
    except Image.DecompressionBombError:
        return ImageCheck([('image.too_large', f'more than {MAX_PIXELS:,} pixels')], size, digest, None)
    except Exception as error:  # on damaged files Pillow raises anything
        return ImageCheck([('image.unreadable', ' '.join(str(error).split()))], size, digest, None)
    if deep:
        faults += _content_faults(content, place)
    return ImageCheck(faults, size, digest, form)


def check_images(places: Sequence[Place], *, deep: bool, workers: int, progress: Progress) -> Iterator[ImageCheck]:
    """Each image in turn, seen by `workers` processes (1: by this one)."""
    return _in_processes(functools.partial(check_image, deep=deep), places, workers, progress)


def same_content(places: Sequence[Place], checks: Sequence[ImageCheck], *, workers: int) -> list[list[int]]:
    """Groups of two or more images, by number, whose bytes are equal. Only files of equal size are read for it."""
    sizes = Counter(check.size for check in checks)
    alike = [number for number, check in enumerate(checks) if check.size and sizes[check.size] > 1]
    unread = [number for number in alike if not checks[number].digest]
    read = _in_processes(_digest_of, [places[number] for number in unread], workers)
    digests = dict(zip(unread, read, strict=True))
    groups: dict[str, list[int]] = {}
    for number in alike:
        digest = digests.get(number, checks[number].digest)
        if digest:
            groups.setdefault(digest, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _header_faults(image: Image.Image, place: Place) -> Iterator[tuple[str, str]]:
    width, height = image.size
    suffix = Path(place.name).suffix[1:].lower()
    if width * height > MAX_PIXELS:
        yield 'image.too_large', f'{width} x {height} pixels'
    if min(width, height) < TINY_SIDE:
        yield 'image.tiny', f'{width} x {height} pixels'
    if max(width, height) > THIN_RATIO * min(width, height):
        yield 'image.thin', f'{width} x {height} pixels'
    if image.mode not in _USUAL_MODES or 'transparency' in image.info:
        yield 'image.mode', f'mode {image.mode}{" with transparency" if image.has_transparency_data else ""}'
    # MPO: photographs of phones, whose further frames are depth and preview
    if image.format != 'MPO' and getattr(image, 'is_animated', False):
        yield 'image.animated', 'more than one frame'
    if _orientation(image) != 1:
        yield 'image.turned', f'EXIF orientation {_orientation(image)}'
    if _SUFFIXES.get(suffix, suffix) != _SUFFIXES.get(image.format.lower(), image.format.lower()):
        yield 'image.suffix', f'a {image.format} named .{suffix}'


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _content_faults(content: bytes, place: Place) -> Iterator[tuple[str, str]]:
    try:
        pixels = LoadImage().transform({'img_bytes': content, 'img_path': place})['img']
    except KoviltError as error:
        yield 'image.broken', str(error).removeprefix(f'{place}: ').partition(';')[0]
        return
    if (pixels == pixels[0, 0]).all():
        yield 'image.blank', f'all pixels are {tuple(pixels[0, 0].tolist())}'


def _digest_of(place: Place) -> str:
    try:
        return _digest(place.read_bytes())
    except (OSError, KoviltError):
        return ''


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _in_processes(
    work: Callable[[Place], Any],
    places: Sequence[Place],
    workers: int,
    progress: Progress = lambda done, total: None,
) -> Iterator[Any]:
    """`work` of each place, in order. So many are under way that all processes are busy, and no more."""
    done = 0
    progress(done, len(places))
    if workers == 1 or len(places) <= _AT_ONCE:
        for place in places:
            yield work(place)
            done += 1
            progress(done, len(places))
        return
    with ProcessPoolExecutor(workers) as pool:
        parts = (places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE))
        waiting = [pool.submit(_each, work, part) for part in islice(parts, 4 * workers)]
        while waiting:
            results = waiting.pop(0).result()
            waiting += [pool.submit(_each, work, part) for part in islice(parts, 1)]
            yield from results
            done += len(results)
            progress(done, len(places))


def _each(work: Callable[[Place], Any], places: Sequence[Place]) -> list[Any]:
    return [work(place) for place in places]
