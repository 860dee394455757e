"""Rows stored as columns of flat arrays: no Python object per row, so forked workers share the main process's memory.

A list of 1.6 million Python strings costs about 100 bytes of overhead a row, and reading one writes its reference
count, which copies the page into every worker. Here a row is a slice of bytes. Columns also pickle as they are (spawn).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kovilt.datasets.korean import normalize_korean

_HASHED_AT_ONCE = 1 << 16  # rows; the powers of their bytes are 64-bit numbers and would not fit for a whole column
_HASH_BASE = 0x9E3779B97F4A7C15  # any odd number with many bits set: 2^64 over the golden ratio

Arrays = Mapping[str, np.ndarray]  # what a frozen column is made of, by name


def prefixed(prefix: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays of a part, named as those of its whole."""
    return {f'{prefix}.{name}': array for name, array in arrays.items()}


def beneath(prefix: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """The part that `prefixed` named."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f'{prefix}.')}


class TextColumn:
    """Strings one after the other as UTF-8 bytes; `column[i]` is the i-th string."""

    @staticmethod
    def clean(value: Any) -> str:
        """A value as this column holds it: labels hold numbers beside strings, and null."""
        return '' if value is None else normalize_korean(str(value))

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

    def arrays(self) -> dict[str, np.ndarray]:
        """What a frozen column is made of; `from_arrays` makes it again, also of memory-mapped ones."""
        return {'bytes': self._bytes, 'ends': self._ends}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TextColumn:
        column = cls()
        column._bytes, column._ends = arrays['bytes'], arrays['ends']
        return column

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._ends):
            raise IndexError(f'row {index} of a column of {len(self._ends)} rows')
        start = self._ends[index - 1] if index else 0
        return bytes(self._bytes[start : self._ends[index]]).decode()

    def hashes(self) -> np.ndarray:
        """uint64 (rows,) of a frozen column: equal for equal strings, hardly ever for others; 0 for the empty one."""
        starts = np.concatenate([[0], self._ends[:-1]])
        longest = int((self._ends - starts).max(initial=0))
        powers = np.full(longest, _HASH_BASE, dtype=np.uint64).cumprod()
        hashes = np.zeros(len(self), dtype=np.uint64)
        for first in range(0, len(self), _HASHED_AT_ONCE):
            rows = np.arange(first, min(first + _HASHED_AT_ONCE, len(self)))
            rows = rows[self._ends[rows] > starts[rows]]
            if len(rows):
                begin, end = starts[rows[0]], self._ends[rows[-1]]
                place = np.arange(begin, end) - np.repeat(starts[rows], self._ends[rows] - starts[rows])
                terms = (self._bytes[begin:end].astype(np.uint64) + np.uint64(1)) * powers[place]
                hashes[rows] = np.add.reduceat(terms, starts[rows] - begin)
        return hashes

    def digest(self) -> bytes:
        """Equal for equal columns."""
        digest = hashlib.blake2b(self._ends)
        digest.update(self._bytes)
        return digest.digest()


class CategoryColumn:
    """Strings that repeat (answers, folders): each distinct one is stored once, a row is its number in `codes`."""

    clean = staticmethod(TextColumn.clean)

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

    def arrays(self) -> dict[str, np.ndarray]:
        """As `TextColumn.arrays`."""
        return {'codes': self.codes, **prefixed('values', self.values.arrays())}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> CategoryColumn:
        column = cls()
        column.values, column._code_of = TextColumn.from_arrays(beneath('values', arrays)), None
        column.codes = arrays['codes']
        return column

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> str:
        return self.values[self.codes[index]]

    def digest(self) -> bytes:
        """Equal for equal columns."""
        digest = hashlib.blake2b(self.codes)
        digest.update(self.values.digest())
        return digest.digest()


class ListColumn:
    """Lists of strings that repeat (the answers of ten people), one after the other in `items`; a row may be empty."""

    def __init__(self, rows: Iterable[Iterable[str]] = ()) -> None:
        self.items, self._ends = CategoryColumn(), array('q')
        for row in rows:
            self.append(row)

    @staticmethod
    def clean(value: Any) -> list[str]:
        """A list (or None) as this column holds it, without its blank strings."""
        return [text for text in map(TextColumn.clean, value or ()) if text]

    def append(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.items.append(text)
        self._ends.append(len(self.items))

    def freeze(self) -> ListColumn:
        """As `TextColumn.freeze`. Returns itself."""
        self.items.freeze()
        self._ends = np.array(self._ends, dtype=np.int64)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """As `TextColumn.arrays`."""
        return {'ends': self._ends, **prefixed('items', self.items.arrays())}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ListColumn:
        column = cls()
        column.items, column._ends = CategoryColumn.from_arrays(beneath('items', arrays)), arrays['ends']
        return column

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> list[str]:
        return [self.items.values[code] for code in self.codes_of(index)]

    def codes_of(self, index: int) -> np.ndarray:
        """int32 (k,) of a frozen column: the numbers in `items.values` of the k strings of a row."""
        if not 0 <= index < len(self._ends):
            raise IndexError(f'row {index} of a column of {len(self._ends)} rows')
        start = self._ends[index - 1] if index else 0
        return self.items.codes[start : self._ends[index]]

    def holds(self, wanted: np.ndarray) -> np.ndarray:
        """bool (rows,) of a frozen column: whether a row has a string that is `wanted`, bool (distinct strings,)."""
        found = np.concatenate([[0], np.cumsum(wanted[self.items.codes], dtype=np.int64)])
        return np.diff(found[self._ends], prepend=0) > 0

    def digest(self) -> bytes:
        """Equal for equal columns."""
        digest = hashlib.blake2b(self._ends)
        digest.update(self.items.digest())
        return digest.digest()
