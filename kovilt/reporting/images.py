"""Finds and shrinks the images of predictions."""

from __future__ import annotations

import functools
import os.path
from pathlib import Path

from PIL import Image

from kovilt.datasets.base64_files import find_base64
from kovilt.datasets.image_store import ARCHIVES, archive_images
from kovilt.datasets.members import Member
from kovilt.datasets.table_files import find_cell
from kovilt.datasets.transforms.load_image import LoadImage
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


def find_image(path: str) -> Path | Member | None:
    """Where an image lies that `ImageStore.name` calls so: a file, or a member of a zip, tar or table."""
    # os.path: Path.is_file raises at a name that no file can have, such as one of 300 characters
    if os.path.isfile(path):
        return Path(path)
    container = next((folder for folder in Path(path).parents if os.path.isfile(folder)), None)
    if container is None:
        return None
    if container.suffix.lower() in ARCHIVES:
        return _members(str(container)).get(path)
    name = path[len(str(container)) + 1 :]
    return find_base64(str(container), name) or find_cell(str(container), name)


@functools.lru_cache(maxsize=8)
def _members(path: str) -> dict[str, Member]:
    return {str(member): member for _, member in archive_images(path)}
