"""Rows as columns of Arrow: collected while a reader yields rows, written to a file, and mapped into memory again.

A table is a dict of `pyarrow` arrays of equal length. It has no Python object per row, so that forked workers share the
memory of their parent. `table[name][i].as_py()` is the value of row i.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kovilt.errors import KoviltError, first_line
from kovilt.files import atomic_path

Table = dict[str, pa.Array]

STRING = pa.large_string()
CATEGORY = pa.dictionary(pa.int32(), pa.large_string())  # strings that repeat, such as answers
CATEGORY_LIST = pa.list_(CATEGORY)  # lists of such strings, such as the answers of ten people; a list may be empty

_CHUNK_ROWS = 1 << 14  # rows that are Python objects at a time


class TableBuilder:
    """Collects rows into a table.

    Args:
        columns: the Arrow type of each column.
    """

    def __init__(self, columns: Mapping[str, pa.DataType]) -> None:
        self._types, self._rows = dict(columns), 0
        self._values: dict[str, list[Any]] = {name: [] for name in columns}
        self._chunks: dict[str, list[pa.Array]] = {name: [] for name in columns}

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, a dict with a value for each column."""
        for name, values in self._values.items():
            values.append(row[name])
        self._rows += 1
        if self._rows % _CHUNK_ROWS == 0:
            self._convert_values()

    def __len__(self) -> int:
        return self._rows

    def finish(self) -> Table:
        """The table of all rows; the builder is empty afterwards."""
        self._convert_values()
        self._rows = 0
        return {name: self._join_chunks(name) for name in self._types}

    def _convert_values(self) -> None:
        for name, values in self._values.items():
            self._chunks[name].append(pa.array(values, type=self._types[name]))
            values.clear()

    def _join_chunks(self, name: str) -> pa.Array:
        """One array of all chunks of a column, whose memory is released; categories get common codes."""
        chunks, self._chunks[name] = self._chunks[name], []
        return pa.chunked_array(chunks, type=self._types[name]).combine_chunks()


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
    for buffer in column.buffers():
        digest.update(buffer or b'')
    values = column.values if pa.types.is_list(column.type) else column
    if pa.types.is_dictionary(values.type):
        _update_digest(digest, values.dictionary)


def write_table(path: str | os.PathLike[str], table: Table) -> None:
    """Write an Arrow file (Feather, version 2), atomically."""
    batch = pa.RecordBatch.from_arrays(list(table.values()), names=list(table))
    with atomic_path(path) as draft, pa.ipc.new_file(str(draft), batch.schema) as file:
        file.write_batch(batch)


def map_table(path: str | os.PathLike[str]) -> Table:
    """Map a file of `write_table` into memory: nothing is copied, and processes share its pages.

    Raises:
        KoviltError: the file is missing or damaged.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, ValueError, IndexError) as error:
        raise KoviltError(f'{path}: not a readable Arrow file ({first_line(error)})') from error
    return dict(zip(batch.schema.names, batch.columns, strict=True))
