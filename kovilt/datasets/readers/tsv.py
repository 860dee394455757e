"""Reads TSV files of VLMEvalKit: benchmarks with the images as base64 text in their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kovilt.datasets.base64_files import base64_image
from kovilt.datasets.folders import Folder
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.column_names import check_names, map_names
from kovilt.datasets.readers.parquet import map_aliases
from kovilt.datasets.readers.table_reader import TableReader
from kovilt.datasets.readers.tables import TableFile, found_base64
from kovilt.datasets.rows import FoundImage
from kovilt.datasets.table_files import is_base64
from kovilt.errors import KoviltError
from kovilt.files import open_file
from kovilt.json_text import encoding_error
from kovilt.registry import READERS

_MAX_ROW = 300 << 20  # bytes: an image of 200 MB in base64
_LONGEST_REFERENCE = 64  # characters of a number in place of an image; VLMEvalKit's rule
_QUOTED = re.compile(rb'"(?:[^"]++|"")*+')  # a cell in quotes, without the quote that ends it
_BARE = re.compile(rb'[^\t\n]*+')
_END = re.compile(rb'\t|\r?\n|\r?\Z')


class _Cell(NamedTuple):
    """A cell by its place in the bytes of its row; without its quotes."""

    start: int
    end: int


class TSVTable(TableFile):
    """The rows of a TSV file as dicts; its first line names the columns. Cells may be in quotes, as in CSV.

    `image` of a row is a FoundImage where the cell is base64, else a path. A number is the `index` of the row that has
    the image.

    Raises:
        KoviltError: no such columns, a malformed row, several images in one.
    """

    def __init__(
        self,
        path: Path,
        *,
        needs_answer: bool = True,
        columns: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._file = open_file(path, 'archive')
        self._read = 0  # number of the latest line that was read; a row may have several
        self._names: list[str] | None = None  # None before the header is read, empty after one that is wrong
        self._follow = follow  # images of other rows
        self._by_index: dict[str, FoundImage] | None = None

    def __next__(self) -> dict[str, Any]:
        if self._names is None:
            self._read_header()
        if not self._names:
            raise StopIteration
        while True:
            start, row, cells = self._next_cells()
            if row.strip():
                break
        if len(cells) != len(self._names):
            raise KoviltError(f'{self.place}: {len(cells)} cells, but {len(self._names)} columns; download it again')
        values: dict[str, Any] = {}
        for name, cell in zip(self._names, cells, strict=True):
            values[name] = self._image(start, row, cell) if name == 'image' else self._text(row, cell)
        if isinstance(values['image'], int):
            values['image'] = self._image_of(str(values['image']))
        return values

    def _read_header(self) -> None:
        self._names = []
        try:
            _, row, cells = self._next_cells()
        except StopIteration:
            raise KoviltError(f'{self.path}: the file is empty; download it again') from None
        names = [normalize_korean(self._text(row, cell)) for cell in cells]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise KoviltError(f'{self.place}: two columns are called {repeated!r}; keep or rename one')
        ours = map_names(names, map_aliases(names, self._given), self.place, 'column')
        check_names(ours, self.place, 'column', needs_answer=self._needs_answer, given=names)
        self._names = ours

    def _next_cells(self) -> tuple[int, bytes, list[_Cell]]:
        """Where the next row begins in the file, its bytes and its cells."""
        start = 0 if self._file.closed else self._file.tell()
        row = first = self._next_line()
        self._line = self._read
        cells, at = list[_Cell](), 3 if self._read == 1 and row.startswith(b'\xef\xbb\xbf') else 0
        while True:
            if row.startswith(b'"', at):
                while (end := _closing_quote(row, at)) is None:
                    more = self._file.readline(_MAX_ROW)
                    self._read += 1
                    if not more or len(row) + len(more) > _MAX_ROW:
                        self._file.seek(start + len(first))
                        self._read = self._line
                        raise KoviltError(f'{self.place}: a quote (") opens a cell and does not close it; close it')
                    row += more
                cells.append(_Cell(at + 1, end))
                end += 1
            else:
                found = _BARE.match(row, at)
                assert found is not None  # the pattern matches the empty string
                end = found.end()
                cells.append(_Cell(at, end - row.endswith(b'\r', at, end)))
            separator = _END.match(row, end)
            if separator is None:
                raise KoviltError(f'{self.place}: text behind the quote (") that closes a cell; write "" for a quote')
            at = separator.end()
            if separator[0] != b'\t':
                return start, row, cells

    def _next_line(self) -> bytes:
        line = b'' if self._file.closed else self._file.readline(_MAX_ROW + 1)
        if not line:
            self._file.close()
            raise StopIteration
        self._read += 1
        if len(line) > _MAX_ROW:
            self._names = []
            raise KoviltError(f'{self.path}, line {self._read}: longer than {_MAX_ROW:,} bytes; is it the right file?')
        return line

    def _text(self, row: bytes, cell: _Cell) -> str:
        try:
            text = row[cell.start : cell.end].decode()
        except UnicodeDecodeError as error:
            raise encoding_error(self.place, error) from None
        return text.replace('""', '"') if row[cell.start - 1 : cell.start] == b'"' else text

    def _image(self, start: int, row: bytes, cell: _Cell) -> FoundImage | str | int:
        """The image in a cell, its path, or the index of the row that has it."""
        if row.startswith(b'[', cell.start, cell.end):
            cell = self._only_item(row, cell)
        size = cell.end - cell.start
        ends = row[cell.start : min(cell.end, cell.start + 256)] + row[max(cell.start + 256, cell.end - 6) : cell.end]
        if not is_base64(ends.decode('ascii', 'replace')):
            text = self._text(row, cell).strip()
            return int(text) if text.isdecimal() and len(text) <= _LONGEST_REFERENCE and self._follow else text
        place = base64_image(str(self.path), self._line, start + cell.start, size)
        return found_base64(place, row[cell.start : cell.end])

    def _only_item(self, row: bytes, cell: _Cell) -> _Cell:
        """The text in a list of one text."""
        items = row.count(b',', cell.start, cell.end) + 1
        if items > 1:
            raise KoviltError(
                f"{self.place}: {items} images in 'image', where a question is about one; give it a row each"
            )
        start, end = cell
        while start < end and row[start : start + 1] in (b'[', b'"', b"'", b' '):
            start += 1
        while start < end and row[end - 1 : end] in (b']', b'"', b"'", b' '):
            end -= 1
        return _Cell(start, end)

    def _image_of(self, index: str) -> FoundImage:
        """The image of the row with an index."""
        if self._by_index is None:
            table = TSVTable(Path(self.path), needs_answer=self._needs_answer, columns=self._given, follow=False)
            self._by_index = {}
            while True:
                try:
                    row = next(table)
                except StopIteration:
                    break
                except KoviltError:  # which this table reports, too
                    continue
                if isinstance(row['image'], FoundImage):
                    self._by_index[str(row.get('question_id'))] = row['image']
        if index not in self._by_index:
            raise KoviltError(f"{self.place}: 'image' is {index}, but no row of that index has an image")
        return self._by_index[index]


def _closing_quote(row: bytes, at: int) -> int | None:
    """Where the cell in quotes that begins at `at` ends; None if it continues behind the row."""
    found = _QUOTED.match(row, at)
    assert found is not None  # there is a quote
    return found.end() if found.end() < len(row) else None


@READERS.register_module()
class TSVReader(TableReader):
    """Reader of TSV files of VLMEvalKit in `data_root`: index, image (base64), question, A, B, C, D, answer, category.

    The answer of a row with options is the text of the right one (see `TableReader`), its type the category. The split
    of a file is a word of its name (MMBench_DEV_KO.tsv: val), and 'train' where none is. The files of a benchmark
    have gigabytes: images are read from their place in the file when they are asked for.

    Layout and keys: VLMEvalKit's.
    """

    SUFFIXES = ('.tsv',)
    HOW_TO_GET = 'Put the .tsv of the benchmark there; VLMEvalKit downloads them to ~/LMUData'

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        return super().find_files(split, folders[:1])

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        return TSVTable(path, needs_answer=needs_answer, columns=self.columns)
