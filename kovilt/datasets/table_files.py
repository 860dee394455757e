"""Parquet files and Arrow files of HuggingFace's `datasets`: their rows, and the images in their cells.

Rows are read in batches, once; an image is read again from its cell when it is asked for. Of an Arrow file the pages of
the cell are mapped into memory and nothing else is touched. Parquet is compressed, so that a cell is reached from the
beginning of its row group: rows that are asked for in their order cost nothing more, any other row costs decoding the
part of its row group before it (row groups of images have 100 rows where `datasets` wrote them).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import os
import re
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa

from kovilt.datasets.members import Member
from kovilt.errors import KoviltError, first_line
from kovilt.files import check_file

TABLE_CELL = -2  # the `method` of a TableCell
BATCH_ROWS = 32  # rows that are decoded at a time; with images of 1 MB that is 32 MB
_OPEN_FILES = 8  # of which a process keeps the current batch
_DATA_URI = re.compile(r'data:image/[\w.+-]+;base64,')
_IMAGE_STARTS = ('/9j/', 'iVBOR', 'R0lGOD', 'UklGR', 'Qk', 'SUkq', 'TU0A')  # of JPEG, PNG, GIF, WebP, BMP, TIFF
_BASE64 = re.compile(r'[A-Za-z0-9+/_\s-]{64}')
_NAME = re.compile(r'(?P<column>.+)\[(?P<row>\d{1,18})\]/[^/]+')  # of a TableCell
_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError, MemoryError, OverflowError)


class TableCell(Member):
    """An image in a cell of a Parquet or Arrow file; `start` is the number of its row, `name` begins with its column.

    The name of an image of row 12 is `image[12]/a.jpg`, or `image[12]/image` where the cell names none.
    """

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """Read the image. Raises KoviltError when the file is gone, has changed or is damaged."""
        found = _NAME.fullmatch(self.name)
        try:
            content = content_of(_open(self.container).value(found['column'], self.start)) if found else None
        except _ERRORS as error:
            raise KoviltError(f'{self}: cannot be read ({first_line(error)}); download the file again') from None
        if content is None or len(content) != self.content_size:
            raise KoviltError(f'{self}: another image than when the file was listed; it has changed')
        return content


def find_cell(path: str, name: str) -> TableCell | None:
    """The image of a file that `cell_name` calls so; None if there is none."""
    if not (found := _NAME.fullmatch(name)):
        return None
    try:
        content = content_of(_open(path).value(found['column'], int(found['row'])))
    except (KoviltError, *_ERRORS):
        return None
    return content and TableCell(path, name, int(found['row']), len(content), len(content), TABLE_CELL, 0) or None


class CellContent(NamedTuple):
    """What a cell says of its image: bytes, base64 text or the path of a file, of which two may be given."""

    content: bytes | None
    path: str | None


def cell_name(column: str, row: int, path: str | None) -> str:
    """The name of a TableCell; of a path only the last part, as it may be one of another machine."""
    name = (path or '').replace('\\', '/').rpartition('/')[2]
    printable = ''.join(letter for letter in name[-100:] if letter.isprintable())
    return f'{column}[{row}]/{printable or "image"}'


def read_cell(value: Any) -> CellContent:
    """The image in a cell: a struct of `bytes` and `path` as `datasets` writes it, bytes, base64 text, or a path.

    Raises:
        ValueError: anything else, such as a list of several images; the message does not name the cell.
    """
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f'{len(value)} images in one row, where a question is about one; give it a row each')
        value = value[0]
    if value is None:
        return CellContent(None, None)
    if isinstance(value, dict):
        content, path = value.get('bytes'), value.get('path')
        if not (content is None or isinstance(content, bytes)) or not (path is None or isinstance(path, str)):
            raise ValueError(f'an object of {", ".join(map(repr, value))[:60]} in place of an image of bytes and path')
        return CellContent(content or None, path)
    if isinstance(value, bytes):
        return CellContent(value or None, None)
    if isinstance(value, str):
        return CellContent(decode_base64(value), None) if is_base64(value) else CellContent(None, value)
    raise ValueError(f'a {type(value).__name__} in place of an image')


def content_of(value: Any) -> bytes | None:
    """The bytes of the image in a cell; None if it has only a path."""
    return read_cell(value).content


def is_base64(text: str) -> bool:
    """Whether a text is an image in base64 and no path: long, of base64's letters, without a suffix at its end."""
    return bool(_DATA_URI.match(text)) or len(text) > 64 and bool(_BASE64.match(text)) and '.' not in text[-6:]


def is_base64_image(text: str) -> bool:
    """As `is_base64`, where a path is usual and may have no suffix: the text begins as a known kind of image does."""
    return bool(_DATA_URI.match(text)) or text.startswith(_IMAGE_STARTS) and is_base64(text)


def decode_base64(text: str | bytes) -> bytes:
    """The bytes that base64 text stands for, with or without `data:image/...;base64,` before it.

    Raises:
        ValueError: the text is damaged.
    """
    if isinstance(text, bytes):
        text = text.decode('ascii', 'replace')
    text = ''.join(text[found.end() if (found := _DATA_URI.match(text)) else 0 :].split())
    try:
        return base64.b64decode(text.replace('-', '+').replace('_', '/'), validate=True)
    except binascii.Error as error:
        raise ValueError(f'damaged base64 of {len(text):,} characters: {error}') from None


def read_schema(path: str) -> pa.Schema:
    """The columns of a Parquet or Arrow file. Raises KoviltError when it is missing or damaged."""
    return _open(path).schema


def read_batches(path: str, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a Parquet or Arrow file, some at a time, as dicts with these columns.

    Raises:
        KoviltError: a missing or damaged file; the message says how many rows were read.
    """
    rows, names = 0, _class_names(read_schema(path))
    batches = _open(path).batches(columns)
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            found = batch.to_pylist()
            for column in names.keys() & set(columns):
                for row in found:
                    row[column] = _class_name(row[column], names[column])
        except _ERRORS as error:
            raise _damaged(path, error, f' after row {rows}') from None
        rows += len(found)
        yield found


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> the texts that its whole numbers stand for, where `datasets` says so (ClassLabel)."""
    try:
        features = json.loads((schema.metadata or {})[b'huggingface'])['info']['features']
        found = {column: feature['names'] for column, feature in features.items() if 'names' in feature}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: [str(name) for name in names] for column, names in found.items() if isinstance(names, list)}


def _class_name(value: Any, names: list[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _damaged(path: str, error: BaseException, where: str = '') -> KoviltError:
    kind = 'Parquet' if is_parquet(path) else 'Arrow'
    return KoviltError(f'{path}: not a readable {kind} file{where} ({first_line(error)}); download it again')


def is_parquet(path: str) -> bool:
    return path.lower().endswith('.parquet')


class _TableFile(ABC):
    """An opened file. Several threads may read its cells."""

    schema: pa.Schema

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows with these columns."""

    @abstractmethod
    def value(self, column: str, row: int) -> Any:
        """The value of a cell."""


class _ArrowFile(_TableFile):
    def __init__(self, path: str) -> None:
        file = pa.memory_map(path)
        is_stream = file.read(6) != b'ARROW1'  # `datasets` writes streams
        file.seek(0)
        self._table = (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(file).read_all()
        self._table.validate(full=True)  # offsets from outside; of images it reads nothing else
        self.schema = self._table.schema

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS)

    def value(self, column: str, row: int) -> Any:
        return self._table[column][row].as_py()


class _ParquetFile(_TableFile):
    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq  # here: it is needed by few, and image stores import this module

        self._file = pq.ParquetFile(path, memory_map=True)
        self.schema = self._file.schema_arrow
        sizes = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]  # the first row of each row group, and the number of all rows
        self._lock = threading.Lock()
        self._reading: tuple[str, int] | None = None  # the column and row group that `_batches` iterates over
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._first = 0  # the row with which the batch begins

    def batches(self, columns: Sequence[str], groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        yield from self._file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns), use_threads=False)

    def value(self, column: str, row: int) -> Any:
        if not 0 <= row < self._starts[-1]:
            raise IndexError(f'row {row} of {self._starts[-1]}')
        with self._lock:
            group = bisect_right(self._starts, row) - 1
            if self._reading != (column, group) or row < self._first:
                self._reading, self._first, self._batch = (column, group), self._starts[group], None
                self._batches = self.batches([column], [group])
            while self._batch is None or row >= self._first + self._batch.num_rows:
                self._first += 0 if self._batch is None else self._batch.num_rows
                self._batch = None  # before the next is decoded: two would take twice the memory
                try:
                    self._batch = next(self._batches, None)
                except BaseException:
                    self._reading = None  # a batch that failed is not passed over
                    raise
                if self._batch is None:
                    self._reading = None
                    raise IndexError(f'row {row} is not in its row group')
            return self._batch.column(0)[row - self._first].as_py()


def _open(path: str) -> _TableFile:
    """Open a file once per process, and again if it has changed. A forked process shares the mapped pages."""
    check_file(path, 'archive')
    status = os.stat(path)
    return _open_stamped(path, (status.st_ino, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=_OPEN_FILES)
def _open_stamped(path: str, stamp: tuple[int, int, int]) -> _TableFile:
    try:
        return (_ParquetFile if is_parquet(path) else _ArrowFile)(path)
    except _ERRORS as error:
        raise _damaged(path, error) from None
