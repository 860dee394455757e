"""An LRU cache of encoded images, so that further questions about an image cost only their tokens."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from kovilt.errors import KoviltError
from kovilt.files import file_sha256

CachedImage = dict[str, Any]  # patches, grid and, once encoded, `encoded`, which replaces the patches


class EncodedImageCache:
    """The last `max_images` images that one `PrefixViLT` has encoded.

    An image is identified by its content: a file by its bytes, so that a cached file is not even decoded again, and
    any other image by its patches.
    """

    def __init__(self, max_images: int) -> None:
        if isinstance(max_images, bool) or not isinstance(max_images, int) or max_images < 0:
            raise KoviltError(f'image_cache_size={max_images!r}: give the number of images to cache, 0 for none')
        self.max_images = max_images
        self._images: OrderedDict[Hashable, CachedImage] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def get(
        self, source: Any, read: Callable[[], CachedImage], encode: Callable[[CachedImage], CachedImage]
    ) -> CachedImage:
        """What `encode` has made of an image. Threads may share the cache.

        Args:
            source: a path, or any object that `read` can read.
            read: returns dict(patches=..., grid=...) of the image.
            encode: returns what the encoder makes of that.
        """
        key = _file_digest(source)
        cached = self._find(key)
        if cached is None:
            image = read()
            key = key or (tuple(image['grid']), hashlib.sha256(image['patches'].tobytes()).digest())
            cached = self._find(key) or encode(image)
        with self._lock:
            self._images[key] = cached
            self._images.move_to_end(key)
            if len(self._images) > self.max_images:
                self._images.popitem(last=False)
        return cached

    def _find(self, key: Hashable) -> CachedImage | None:
        with self._lock:
            return self._images.get(key)


def _file_digest(image: Any) -> Hashable | None:
    """The digest of an image file; None for other images, and for a file that `read` will refuse."""
    if not isinstance(image, (str, os.PathLike)):
        return None
    try:
        return file_sha256(image, 'image')
    except KoviltError:
        return None
