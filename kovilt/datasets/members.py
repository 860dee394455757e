"""Files inside other files: what stands for a path where an image has no file of its own."""

from __future__ import annotations

import functools
import io
from typing import NamedTuple

from kovilt.files import FileKind, open_file


class _Place(NamedTuple):
    container: str
    name: str
    start: int
    size: int
    content_size: int
    method: int
    checksum: int


class Member(_Place):
    """A file inside another file. Like a Path it has `read_bytes`, `name` and a string form.

    Attributes:
        container: the path of the file that holds it.
        name: of the member there.
        start: where it begins; what this counts, a subclass says.
        size: bytes that it takes in the container.
        content_size: bytes of its content.
        method: how it is stored; it tells the subclass (see `ImageStore`).
        checksum: CRC-32 of the content, where the container states it; else 0.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f'{self.container}/{self.name}'

    def read_bytes(self) -> bytes:
        """Read the file. Raises KoviltError when the container is gone, has changed or is damaged."""
        raise NotImplementedError


@functools.lru_cache(maxsize=128)
def open_container(path: str, kind: FileKind) -> io.BufferedReader:
    """Open a container once per process; pread uses no file position, which a forked process would share."""
    return open_file(path, kind)
