"""Table columns in flat arrays: no Python object per row, so that forked workers share the memory of their parent.

A list of 1.6 million Python strings has about 100 bytes of overhead per row, and reading one writes its reference
count, which copies the memory page into every worker. Here a row is a slice of one byte array. Columns can also be
pickled, for workers that are spawned.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kovilt.datasets.korean import normalize_korean

_HASH_CHUNK = 1 << 16  # rows hashed at a time; a hash term of 8 bytes for each of their bytes is in memory
_HASH_BASE = 0x9E3779B97F4A7C15  # any odd number with many bits set: 2^64 over the golden ratio

Arrays = Mapping[str, np.ndarray]  # the arrays of a frozen column, by name


def add_prefix(prefix: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """Name the arrays of a part `<prefix>.<name>`, as they are called within the whole."""
    return {f'{prefix}.{name}': array for name, array in arrays.items()}


def select_prefix(prefix: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """Undo `add_prefix`: the arrays of one part under their own names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f'{prefix}.')}


class TextColumn:
    """A column of strings, stored as one UTF-8 byte array; `column[i]` is the i-th string."""

    # Growing, a bytearray and an array('q'); frozen, a uint8 and an int64 array. String i ends at byte _ends[i].
    _bytes: Any
    _ends: Any

    @staticmethod
    def clean(value: Any) -> str:
        """Convert a value of a label file, which may be a string, a number or null, to a normalized string."""
        return '' if value is None else normalize_korean(str(value))

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array('q')
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def freeze(self) -> TextColumn:
        """Release memory that was allocated for growing; nothing can be appended afterwards. Returns itself."""
        self._bytes, self._ends = np.array(self._bytes, dtype=np.uint8), np.array(self._ends, dtype=np.int64)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of a frozen column; `from_arrays` makes an equal column of them, also if they are mapped files."""
        return {'bytes': self._bytes, 'ends': self._ends}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> TextColumn:
        """Undo `arrays`."""
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
        """uint64 (rows,) of a frozen column: equal for equal strings, almost surely not for others; 0 for ''."""
        starts = np.concatenate([[0], self._ends[:-1]])
        longest = int((self._ends - starts).max(initial=0))
        powers = np.full(longest, _HASH_BASE, dtype=np.uint64).cumprod()
        hashes = np.zeros(len(self), dtype=np.uint64)
        for first in range(0, len(self), _HASH_CHUNK):
            rows = np.arange(first, min(first + _HASH_CHUNK, len(self)))
            rows = rows[self._ends[rows] > starts[rows]]
            if len(rows):
                begin, end = starts[rows[0]], self._ends[rows[-1]]
                position = np.arange(begin, end) - np.repeat(starts[rows], self._ends[rows] - starts[rows])
                terms = (self._bytes[begin:end].astype(np.uint64) + np.uint64(1)) * powers[position]
                hashes[rows] = np.add.reduceat(terms, starts[rows] - begin)
        return hashes

    def digest(self) -> bytes:
        """A digest of a frozen column, equal for equal columns."""
        digest = hashlib.blake2b(self._ends)
        digest.update(self._bytes)
        return digest.digest()


class CategoryColumn:
    """A column of strings that repeat, such as answers: `values` holds each distinct string once, `codes` the rows."""

    clean = staticmethod(TextColumn.clean)
    codes: Any  # growing, an array('i'); frozen, int32 (rows,): the row's index in `values`

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.values, self.codes = TextColumn(), array('i')
        self._code_of: dict[str, int] = {}  # empty once frozen
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        code = self._code_of.setdefault(text, len(self._code_of))
        if code == len(self.values):
            self.values.append(text)
        self.codes.append(code)

    def freeze(self) -> CategoryColumn:
        """As `TextColumn.freeze`."""
        self.values.freeze()
        self.codes, self._code_of = np.array(self.codes, dtype=np.int32), {}
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """As `TextColumn.arrays`."""
        return {'codes': self.codes, **add_prefix('values', self.values.arrays())}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> CategoryColumn:
        """Undo `arrays`."""
        column = cls()
        column.values = TextColumn.from_arrays(select_prefix('values', arrays))
        column.codes = arrays['codes']
        return column

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> str:
        return self.values[self.codes[index]]

    def digest(self) -> bytes:
        """As `TextColumn.digest`."""
        digest = hashlib.blake2b(self.codes)
        digest.update(self.values.digest())
        return digest.digest()


class ListColumn:
    """A column of lists of strings that repeat, such as the answers of ten people; a list may be empty.

    `items` holds the strings of all lists one after the other.
    """

    _ends: Any  # growing, an array('q'); frozen, an int64 array: list i ends at item _ends[i]

    def __init__(self, rows: Iterable[Iterable[str]] = ()) -> None:
        self.items, self._ends = CategoryColumn(), array('q')
        for row in rows:
            self.append(row)

    @staticmethod
    def clean(value: Any) -> list[str]:
        """Convert a list of label values, or None, to normalized strings; blank ones are dropped."""
        return [text for text in map(TextColumn.clean, value or ()) if text]

    def append(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.items.append(text)
        self._ends.append(len(self.items))

    def freeze(self) -> ListColumn:
        """As `TextColumn.freeze`."""
        self.items.freeze()
        self._ends = np.array(self._ends, dtype=np.int64)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """As `TextColumn.arrays`."""
        return {'ends': self._ends, **add_prefix('items', self.items.arrays())}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ListColumn:
        """Undo `arrays`."""
        column = cls()
        column.items, column._ends = CategoryColumn.from_arrays(select_prefix('items', arrays)), arrays['ends']
        return column

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> list[str]:
        return [self.items.values[code] for code in self.codes_of(index)]

    def codes_of(self, index: int) -> np.ndarray:
        """int32 (k,) of a frozen column: the indices in `items.values` of the k strings of a row."""
        if not 0 <= index < len(self._ends):
            raise IndexError(f'row {index} of a column of {len(self._ends)} rows')
        start = self._ends[index - 1] if index else 0
        return self.items.codes[start : self._ends[index]]

    def contains_any(self, wanted: np.ndarray) -> np.ndarray:
        """Tell which rows of a frozen column contain one of the `wanted` strings.

        Args:
            wanted: bool (distinct strings,), by the string's index in `items.values`.

        Returns:
            bool (rows,).
        """
        found = np.concatenate([[0], np.cumsum(wanted[self.items.codes], dtype=np.int64)])
        return np.diff(found[self._ends], prepend=0) > 0

    def digest(self) -> bytes:
        """As `TextColumn.digest`."""
        digest = hashlib.blake2b(self._ends)
        digest.update(self.items.digest())
        return digest.digest()


Column = TextColumn | CategoryColumn | ListColumn
