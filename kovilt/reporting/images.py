"""Finds and shrinks the images of predictions."""

from __future__ import annotations

import functools
import os.path
from pathlib import Path

from PIL import Image

from kovilt.datasets.image_store import IMAGE_SUFFIXES
from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.datasets.zip_files import ZipMember, zip_members
from kovilt.errors import KoviltError
from kovilt.visualization.report import image_url

THUMBNAIL = 280  # pixels, the longer side


@functools.lru_cache(maxsize=512)
def thumbnail_of(path: str) -> str:
    """A small JPEG of the image that a record names, as part of a page; '' if it is absent or cannot be read."""
    try:
        place = find_image(path)
        return place and image_url(Image.fromarray(LoadImage().transform({'img_path': place})['img']), THUMBNAIL) or ''
    except KoviltError:
        return ''


def find_image(path: str) -> Path | ZipMember | None:
    """Where an image lies that `ImageStore.name` calls so: a file, or a member of a zip."""
    # os.path: Path.is_file raises at a name that no file can have, such as one of 300 characters
    if os.path.isfile(path):
        return Path(path)
    zips = [folder for folder in Path(path).parents if folder.suffix.lower() == '.zip' and os.path.isfile(folder)]
    return _members(str(zips[0])).get(path) if zips else None


@functools.lru_cache(maxsize=8)
def _members(path: str) -> dict[str, ZipMember]:
    return {str(member): member for _, member in zip_members(path, IMAGE_SUFFIXES, 'image')}
