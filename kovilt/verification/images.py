"""Finds the faults of single images in several processes, by their headers or by decoding them."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from kovilt.datasets.base64_files import Base64Image
from kovilt.datasets.image_formats import exif_orientation, open_image
from kovilt.datasets.image_store import read_image_file
from kovilt.datasets.members import Member
from kovilt.datasets.table_files import TableCell
from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.errors import KoviltError
from kovilt.files import open_file
from kovilt.processes import map_in_processes
from kovilt.verification.copies import fingerprint
from kovilt.verification.findings import ImageLocation

ReportProgress = Callable[[int, int], None]  # (images done, all images)

TINY_SIDE = 32  # pixels; one patch of the paper's model
THIN_RATIO = 20  # longer side to shorter side; beyond it ResizeViLT no longer keeps the ratio
_USUAL_MODES = ('RGB', 'L', 'P')
_SUFFIXES = {'jpg': 'jpeg', 'jpe': 'jpeg', 'jfif': 'jpeg', 'tif': 'tiff', 'mpo': 'jpeg'}
_HEADER = 128 << 10  # bytes of a file; most headers are shorter
_CHUNK = 64  # images that a process checks at a time


class ImageCheck(NamedTuple):
    """The result of checking one image."""

    faults: list[tuple[str, str]]  # (code, description)
    size: int = 0  # bytes of the file
    header: tuple[str, str, int, int] | None = None  # format, mode, width, height; None = it cannot be opened
    fingerprint: bytes | None = None  # of a decoded image, see `copies`


def check_image(place: ImageLocation, *, deep: bool) -> ImageCheck:
    """Check an image by its header; `deep` decodes it as training does."""
    try:
        content = place.read_bytes() if isinstance(place, Member) else _read_file(place, None if deep else _HEADER)
        size = len(content) if isinstance(place, Member) else place.stat().st_size
    except (OSError, KoviltError) as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return ImageCheck([('image.missing', str(error).removeprefix(f'{place}: '))])
        return ImageCheck([('image.unreadable', str(error).removeprefix(f'{place}: '))])
    if not size:
        return ImageCheck([('image.empty', 'a file of 0 bytes')])
    try:
        try:
            image = open_image(content)
        except Exception:  # a header may be longer, and that of a TIFF may lie at the end
            if len(content) == size or isinstance(place, Member):
                raise
            image = open_image(_read_file(place, None))
    except KoviltError as error:
        code = 'image.too_large' if 'megapixels' in str(error) else 'image.unreadable'
        return ImageCheck([(code, str(error).partition(';')[0])], size)
    except Exception as error:  # on damaged files Pillow raises anything
        return ImageCheck([('image.unreadable', ' '.join(str(error).split()))], size)
    faults = list(_header_faults(image, place))
    header = (image.format or '', image.mode, *image.size)
    if not deep:
        return ImageCheck(faults, size, header)
    try:
        pixels = LoadImage().transform({'img_bytes': content, 'img_path': place})['img']
    except KoviltError as error:
        faults.append(('image.broken', str(error).removeprefix(f'{place}: ').partition(';')[0]))
        return ImageCheck(faults, size, header)
    if (pixels == pixels[0, 0]).all():
        faults.append(('image.blank', f'all pixels are {tuple(pixels[0, 0].tolist())}'))
    return ImageCheck(faults, size, header, fingerprint(pixels))


def check_images(
    places: Sequence[ImageLocation], *, deep: bool, workers: int, progress: ReportProgress
) -> Iterator[ImageCheck]:
    """Check images in `workers` processes (1: in this one); the results come in the order of `places`."""
    work = functools.partial(check_image, deep=deep)
    progress(0, len(places))
    for done, check in enumerate(map_in_processes(work, places, workers=workers, chunk_size=_CHUNK), 1):
        yield check
        progress(done, len(places))


def group_equal_content(
    places: Sequence[ImageLocation], checks: Sequence[ImageCheck], *, workers: int
) -> list[list[int]]:
    """Groups of two or more images of equal bytes, as indices into `places`; only files of equal size are read."""
    sizes = Counter(check.size for check in checks)
    candidates = [number for number, check in enumerate(checks) if check.size and sizes[check.size] > 1]
    files = [places[number] for number in candidates]
    digests = map_in_processes(_file_digest, files, workers=workers, chunk_size=_CHUNK)
    groups: dict[str, list[int]] = {}
    for number, digest in zip(candidates, digests, strict=True):
        if digest:
            groups.setdefault(digest, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _header_faults(image: Image.Image, place: ImageLocation) -> Iterator[tuple[str, str]]:
    width, height = image.size
    suffix = Path(place.name).suffix[1:].lower()
    if min(width, height) < TINY_SIDE:
        yield 'image.tiny', f'{width} x {height} pixels'
    if max(width, height) > THIN_RATIO * min(width, height):
        yield 'image.thin', f'{width} x {height} pixels'
    if image.mode not in _USUAL_MODES or 'transparency' in image.info:
        yield 'image.mode', f'mode {image.mode}{" with transparency" if image.has_transparency_data else ""}'
    # MPO: photos of phones, whose further frames are a depth map and a preview
    if image.format != 'MPO' and getattr(image, 'is_animated', False):
        yield 'image.animated', 'more than one frame'
    if (orientation := exif_orientation(image)) != 1:
        yield 'image.turned', f'EXIF orientation {orientation}'
    name = (image.format or '').lower()
    has_name = bool(suffix) or not isinstance(place, TableCell | Base64Image)  # which may name no file
    if has_name and _SUFFIXES.get(suffix, suffix) != _SUFFIXES.get(name, name):
        yield 'image.suffix', f'a {image.format} named .{suffix}'


def _read_file(place: Path, size: int | None) -> bytes:
    with open_file(place, 'image') as file:
        return file.read(size)


def _file_digest(place: ImageLocation) -> str:
    try:
        return hashlib.blake2b(read_image_file(place), digest_size=16).hexdigest()
    except (OSError, KoviltError):
        return ''
