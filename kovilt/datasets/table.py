"""Rows as columns of Arrow: collected while a reader yields rows, written to a file, and mapped into memory again.

A table is a dict of `pyarrow` arrays of equal length. It has no Python object per row, so that forked workers share the
memory of their parent. `table[name][i].as_py()` is the value of row i.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kovilt.errors import KoviltError, first_line
from kovilt.files import atomic_path, check_file

Table = dict[str, pa.Array]

STRING = pa.large_string()
CATEGORY = pa.dictionary(pa.int32(), pa.large_string())  # strings that repeat, such as answers
CATEGORY_LIST = pa.list_(CATEGORY)  # lists of such strings, such as the answers of ten people; a list may be empty
NUMBER_LIST = pa.list_(pa.float64())  # lists of numbers, such as the weights of answers


def named_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column of a file as the object that readers name: STRING, CATEGORY, CATEGORY_LIST, NUMBER_LIST."""
    return next((known for known in (STRING, CATEGORY, CATEGORY_LIST, NUMBER_LIST) if known == kind), kind)


class TableBuilder:
    """Collects rows into a table. Values go into the buffers of the table at once, so nothing is copied at the end.

    Args:
        columns: the Arrow type of each column: STRING, CATEGORY, CATEGORY_LIST, a list of numbers, or an integer.
    """

    def __init__(self, columns: Mapping[str, pa.DataType]) -> None:
        self._columns = {name: _column_builder(kind) for name, kind in columns.items()}
        self._appends = [(name, column.append) for name, column in self._columns.items()]
        self._rows = 0

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, a dict with a value for each column."""
        for name, append in self._appends:
            append(row[name])
        self._rows += 1

    def __len__(self) -> int:
        return self._rows

    def finish(self) -> Table:
        """The table of all rows; nothing can be appended afterwards."""
        return {name: column.finish() for name, column in self._columns.items()}


# Columns that grow: `append` takes the value of a row, `finish` gives the Arrow array.


class _Numbers:
    def __init__(self, kind: pa.DataType) -> None:
        self._kind, self._values = kind, array(np.dtype(kind.to_pandas_dtype()).char)
        self.append = self._values.append

    def finish(self) -> pa.Array:
        return pa.Array.from_buffers(self._kind, len(self._values), [None, pa.py_buffer(self._values)])


class _Strings:
    def __init__(self) -> None:
        self._content, self._offsets = bytearray(), array('q', [0])

    def append(self, text: str) -> None:
        self._content += text.encode()
        self._offsets.append(len(self._content))

    def finish(self) -> pa.LargeStringArray:
        buffers = pa.py_buffer(self._offsets), pa.py_buffer(self._content)
        return pa.LargeStringArray.from_buffers(len(self._offsets) - 1, *buffers)


class _Categories:
    def __init__(self) -> None:
        self._codes = _Numbers(pa.int32())
        self._code_of: dict[str, int] = {}

    def append(self, text: str) -> None:
        self._codes.append(self._code_of.setdefault(text, len(self._code_of)))

    def finish(self) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(self._codes.finish(), pa.array(self._code_of, type=STRING))


class _Lists:
    def __init__(self, items: _Categories | _Numbers) -> None:
        self._items, self._offsets, self._end = items, _Numbers(pa.int32()), 0
        self._offsets.append(0)

    def append(self, values: Iterable[Any]) -> None:
        for value in values:
            self._items.append(value)
            self._end += 1
        self._offsets.append(self._end)

    def finish(self) -> pa.ListArray:
        return pa.ListArray.from_arrays(self._offsets.finish(), self._items.finish())


def _column_builder(kind: pa.DataType) -> Any:
    if kind == STRING:
        return _Strings()
    if kind == CATEGORY:
        return _Categories()
    if pa.types.is_list(kind):
        return _Lists(_Categories() if kind == CATEGORY_LIST else _Numbers(kind.value_type))
    return _Numbers(kind)


def take_rows(table: Table, rows: np.ndarray) -> Table:
    """Copy some rows, int (n,), in this order. A column of categories keeps all its categories."""
    return {name: column.take(pa.array(rows)) for name, column in table.items()}


def digest_table(table: Table) -> bytes:
    """A digest, equal for tables of equal rows that a `TableBuilder` made."""
    digest = hashlib.blake2b(repr([(name, str(column.type)) for name, column in table.items()]).encode())
    for column in table.values():
        _update_digest(digest, column)
    return digest.digest()


def _update_digest(digest: hashlib.blake2b, column: pa.Array) -> None:
    # Values alone: buffers of equal columns may differ in their unused ends, and in a mask of missing values.
    if pa.types.is_list(column.type):
        digest.update(column.offsets.to_numpy().data)
        column = column.values
    if pa.types.is_dictionary(column.type):
        digest.update(column.indices.to_numpy().data)
        column = column.dictionary
    if column.type == STRING:
        offsets, content = text_buffers(column)
        digest.update((offsets - offsets[0]).data)
        digest.update(content[offsets[0] : offsets[-1]].data)
    else:
        digest.update(column.to_numpy().data)


def text_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each text begins and the last one ends, int64 (texts + 1,), in the UTF-8 bytes of all, uint8."""
    _, offsets, content = texts.buffers()
    starts = np.frombuffer(offsets or bytes(8), dtype=np.int64)[texts.offset :][: len(texts) + 1]
    return starts, np.frombuffer(content or b'', dtype=np.uint8)


def write_table(path: str | os.PathLike[str], table: Table, metadata: dict[bytes, bytes] | None = None) -> None:
    """Write an Arrow file (Feather, version 2), atomically; `metadata` is stored with the types of the columns."""
    batch = pa.RecordBatch.from_arrays(list(table.values()), names=list(table), metadata=metadata)
    with atomic_path(path) as draft, pa.ipc.new_file(str(draft), batch.schema) as file:
        file.write_batch(batch)


class MappedTable(dict[str, pa.Array]):
    """A table in a mapped file. Pickling it sends the path alone: the other process maps the file again.

    Raises:
        KoviltError: the file is another one than in the process that pickled the table, whose `stamp` is given.
    """

    def __init__(self, path: str, stamp: tuple[int, int] | None = None) -> None:
        status = os.stat(path)
        self._stamp = status.st_ino, status.st_mtime_ns
        if stamp not in (None, self._stamp):
            raise KoviltError(f'{path}: replaced while a run was using it; start the run again')
        file = pa.ipc.open_file(pa.memory_map(path))
        if file.num_record_batches != 1:
            raise ValueError(f'{file.num_record_batches} batches, not 1')
        self.batch = file.get_batch(0)
        super().__init__(zip(self.batch.schema.names, self.batch.columns, strict=True))
        self._path = path

    def __reduce__(self) -> Any:
        return MappedTable, (self._path, self._stamp)


def map_table(path: str | os.PathLike[str]) -> MappedTable:
    """Map a file of `write_table` into memory: nothing is copied, and processes share its pages.

    Offsets, indices and texts of all columns are checked, which reads the file once.

    Raises:
        KoviltError: the file is missing or damaged.
    """
    check_file(path, 'prepared')
    try:
        table = MappedTable(os.path.abspath(path))
        table.batch.validate(full=True)
        if len(table) != len(table.batch.columns) or any(map(_has_nulls, table.values())):
            raise ValueError('two columns of one name, or values that are missing')
    except (OSError, ValueError, LookupError, MemoryError, pa.ArrowException) as error:
        raise KoviltError(f'{path}: not a readable Arrow file ({first_line(error)})') from error
    return table


def _has_nulls(column: pa.Array) -> bool:
    inner = column.values if pa.types.is_list(column.type) else getattr(column, 'dictionary', None)
    return bool(column.null_count) or inner is not None and _has_nulls(inner)
