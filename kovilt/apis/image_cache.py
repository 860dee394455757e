"""Images that were looked at and may be asked about again."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from kovilt.errors import KoviltError
from kovilt.modules.prefix import EncodedImages

Image = dict[str, Any]


class EncodedImageCache:
    """The last `most` images as their grid and what they were encoded as, for the one model that they belong to.

    An image is known by its content: a file by its bytes, and then not even decoded again, any other by its patches.
    """

    def __init__(self, most: int) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise KoviltError(f'image_cache_size={most!r}: give how many images to keep, 0 for none')
        self.most = most
        self._images: OrderedDict[Hashable, Image] = OrderedDict()

    def get(self, source: Any, read: Callable[[], Image], encode: Callable[[Image], EncodedImages]) -> Image:
        """An image as dict(patches=none of them, grid=..., encoded=...).

        Args:
            source: a path, or an object that `read` knows how to read.
            read: gives dict(patches=..., grid=...) of the image.
            encode: gives what is kept of those.
        """
        key = _file_digest(source)
        if key in self._images:
            return self._found(key)
        image = read()
        key = key or (tuple(image['grid']), hashlib.sha256(image['patches'].tobytes()).digest())
        if key in self._images:
            return self._found(key)
        self._images[key] = image = dict(patches=image['patches'][:0], grid=image['grid'], encoded=encode(image))
        if len(self._images) > self.most:
            self._images.popitem(last=False)
        return image

    def _found(self, key: Hashable) -> Image:
        self._images.move_to_end(key)
        return self._images[key]


def _file_digest(image: Any) -> Hashable | None:
    """The digest of an image file; None of what is no file, or none that can be read, as `read` will say."""
    if not isinstance(image, (str, os.PathLike)):
        return None
    try:
        with open(image, 'rb') as file:
            return hashlib.file_digest(file, 'sha256').digest()
    except (OSError, ValueError):
        return None
