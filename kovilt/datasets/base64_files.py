"""Images as base64 text in the middle of a large text file, a TSV or a JSONL, read by their offset."""

from __future__ import annotations

import json
import os
import re

from kovilt.datasets.members import Member, open_container
from kovilt.datasets.table_files import decode_base64
from kovilt.errors import KoviltError

BASE64 = -3  # the `method` of a Base64Image
_NAME = re.compile(r'line \d+, bytes (\d{1,18})\+(\d{1,18})')  # of a Base64Image
_JSON_TEXT = re.compile(r'"((?:[^"\\]++|\\.)*+)"')


class Base64Image(Member):
    """An image in base64. `start` is the offset in bytes of its text, `size` the length; `content_size` is unknown, 0.

    Its name is `line 3, bytes 4711+99` of the text in line 3 that begins at byte 4711 and has 99 bytes.
    """

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """Read the image. Raises KoviltError when the file is gone or has become shorter, or its text is damaged."""
        text = os.pread(open_container(self.container, 'archive').fileno(), self.size, self.start)
        if len(text) < self.size:
            raise KoviltError(f'{self}: not found where the file had it; the file has changed')
        try:
            # In JSON a line break is written as \n, and pandas writes / as \/.
            return decode_base64(json.loads(b'"%s"' % text) if b'\\' in text else text)
        except ValueError as error:
            raise KoviltError(f'{self}: {error}; download the file again') from None


def base64_image(path: str, line: int, start: int, size: int) -> Base64Image:
    """The image whose text lies in a file."""
    return Base64Image(path, f'line {line}, bytes {start}+{size}', start, size, 0, BASE64, 0)


def base64_in_json(path: str, line: int, start: int, text: str, image: str) -> Base64Image:
    """The image that is a value in a line of JSON.

    Args:
        start: the byte of the file with which the line begins.
        text: the line.
        image: the value.
    """
    texts = (found for found in _JSON_TEXT.finditer(text) if len(found[0]) > len(image))
    found = next(found for found in texts if json.loads(found[0]) == image)
    return base64_image(path, line, start + len(text[: found.start(1)].encode()), len(found[1].encode()))


def find_base64(path: str, name: str) -> Base64Image | None:
    """The image that a Base64Image of the file calls so; None if the name is none of such an image."""
    found = _NAME.fullmatch(name)
    return Base64Image(path, name, int(found[1]), int(found[2]), 0, BASE64, 0) if found else None
