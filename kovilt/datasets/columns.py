"""Rows stored as columns of flat arrays: no Python object per row, so forked workers share the main process's memory.

A list of 1.6 million Python strings costs about 100 bytes of overhead a row, and reading one writes its reference
count, which copies the page into every worker. Here a row is a slice of bytes. Columns also pickle as they are (spawn).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np


class TextColumn:
    """Strings one after the other as UTF-8 bytes; `column[i]` is the i-th string."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array('q')
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def freeze(self) -> TextColumn:
        """Give back what growing has over-allocated; nothing can be appended afterwards. Returns itself."""
        self._bytes, self._ends = np.array(self._bytes, dtype=np.uint8), np.array(self._ends, dtype=np.int64)
        return self

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._ends):
            raise IndexError(f'row {index} of a column of {len(self._ends)} rows')
        start = self._ends[index - 1] if index else 0
        return bytes(self._bytes[start : self._ends[index]]).decode()

    def digest(self) -> bytes:
        """Equal for equal columns."""
        digest = hashlib.blake2b(self._ends)
        digest.update(self._bytes)
        return digest.digest()


class CategoryColumn:
    """Strings that repeat (answers, folders): each distinct one is stored once, a row is its number in `codes`."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.values, self.codes, self._code_of = TextColumn(), array('i'), {}
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        code = self._code_of.setdefault(text, len(self._code_of))
        if code == len(self.values):
            self.values.append(text)
        self.codes.append(code)

    def freeze(self) -> CategoryColumn:
        """As `TextColumn.freeze`; `codes` becomes an int32 array. Returns itself."""
        self.values.freeze()
        self.codes, self._code_of = np.array(self.codes, dtype=np.int32), None
        return self

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> str:
        return self.values[self.codes[index]]

    def digest(self) -> bytes:
        """Equal for equal columns."""
        digest = hashlib.blake2b(self.codes)
        digest.update(self.values.digest())
        return digest.digest()
