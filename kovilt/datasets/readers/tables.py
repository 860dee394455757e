"""Tables of questions of one's own: JSONL and CSV files, read row by row."""

from __future__ import annotations

import csv
import re
from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from kovilt.datasets.base64_files import Base64Image, base64_in_json
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.column_names import check_names, map_names, rename_keys
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.rows import FoundImage
from kovilt.datasets.table_files import is_base64_image
from kovilt.errors import KoviltError
from kovilt.files import read_lines, read_placed_lines
from kovilt.json_text import parse_json

_ANSWER_SEPARATOR = '|'  # in a cell of a CSV file
_CELL = re.compile(r'(?:"(?:[^"]++|"")*+"|[^",\n]*)(?:,|\r?\n)')
_WHOLE = re.compile(r'(-?\d+)\.0')
_NUMBER = re.compile(r'-?\d+(?:\.0)?')


class TableFile(RowSource):
    """Iterates over the rows of a table. After an error the next row can be read.

    Args:
        needs_answer: whether a table without answers is refused.
        columns: the names of its columns where they are not kovilt's, by kovilt's name: {'question': '질문'}.
    """

    def __init__(self, path: Path, *, needs_answer: bool = True, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(path)
        self._line, self._needs_answer, self._given = 0, needs_answer, columns or {}

    @property
    def line(self) -> int:
        return self._line

    @property
    def number(self) -> int:
        """The number of the latest row, which stands for an id where it has none."""
        return self._line

    def __iter__(self) -> TableFile:
        return self

    @abstractmethod
    def __next__(self) -> Any: ...


class ObjectTable(TableFile):
    """The rows of a table of objects. If the first has wrong keys, those with the same are not reported again."""

    FOUND: Collection[str] = ()  # keys that an object need not have, because the table finds their values elsewhere

    def __init__(self, path: Path, *, needs_answer: bool = True, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._wrong: Collection[str] | None = None  # None before the first row, empty if its keys are right

    @abstractmethod
    def next_object(self) -> Any:
        """The next value, which should be an object, with the keys that it has in the file."""

    def __next__(self) -> Any:
        while True:
            row = self.next_object()
            if not isinstance(row, dict):
                return row
            if self._wrong is None:
                self._wrong = row.keys()
                names = [*map_names(list(row), self._given, self.place, 'key'), *self.FOUND]
                check_names(names, self.place, 'key', needs_answer=self._needs_answer, given=list(row))
                self._wrong = ()
            if not self._wrong or self._wrong != row.keys():
                return rename_keys(row, self._given)


class JSONLines(ObjectTable):
    """The objects of a JSONL file. `image` of a row is a FoundImage where it is base64."""

    def __init__(self, path: Path, *, needs_answer: bool = True, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._lines = read_placed_lines(path, 'archive')  # which may have images in it

    def next_object(self) -> Any:
        text = ''
        while not text:
            start, text = next(self._lines)
            text = text.rstrip()
            self._line += 1
        row = parse_json(text, self.path, line=self._line, remedy='write one object in each line')
        key = self._given.get('image', 'image')
        image = row.get(key) if isinstance(row, dict) else None
        if not isinstance(image, str) or not is_base64_image(image):
            return row
        return row | {key: found_base64(base64_in_json(str(self.path), self._line, start, text, image), image.encode())}


def found_base64(place: Base64Image, text: bytes) -> FoundImage:
    """The image whose base64 text stands in a table; equal texts are one image."""
    return FoundImage(place, f'base64/{xxhash.xxh3_128_hexdigest(text)}', place.name)


class CSVTable(TableFile):
    """The rows of a CSV file as dicts; its first line that is not blank names the columns.

    In a column of answers, or of types, that are whole numbers 3.0 is read as 3: pandas writes a column so when it has
    a gap. The first column may lack a name, as that of pandas' index does; it is ignored.
    """

    def __init__(self, path: Path, *, needs_answer: bool = True, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._source, self._pushed_back = read_lines(path, 'table'), deque[str]()
        self._read = 0  # number of the latest line that was read; a row may have several
        self._record: list[str] = []  # the lines of the latest row
        self._reader = csv.reader(self._lines(), strict=True)
        self._columns: list[str] | None = None  # None before the header is read, empty after one that is wrong
        self._whole: Collection[str] = ()  # columns of whole numbers

    def __next__(self) -> dict[str, Any]:
        if self._columns is None:
            self._read_header()
            table = CSVTable(Path(self.path), needs_answer=self._needs_answer, columns=self._given)
            table._read_header()
            self._whole = _whole_columns(table)
        row = self._next_row()
        for name in self._whole:
            row[name] = _ANSWER_SEPARATOR.join(map(_without_point, row[name].split(_ANSWER_SEPARATOR)))
        if 'question_id' in row:
            row['question_id'] = _without_point(row['question_id'])
        if 'answers' in row and not row['answers'].lstrip().startswith('{'):  # else answers with their weights
            row['answers'] = row['answers'].split(_ANSWER_SEPARATOR)
        return row

    def _next_row(self) -> dict[str, Any]:
        if not self._columns:
            raise StopIteration
        cells = self._next_cells()
        if len(cells) != len(self._columns):
            found = f'{len(cells)} cells, but {len(self._columns)} columns'
            raise KoviltError(f'{self.place}: {found}; a cell with a comma needs "quotes"')
        row: dict[str, Any] = dict(zip(self._columns, cells, strict=True))
        row.pop('', None)
        return row

    def _next_cells(self) -> list[str]:
        """The cells of the next row; rows without text in any cell are skipped."""
        while True:
            self._record, self._line = [], self._read + 1
            try:
                cells = next(self._reader)
            except csv.Error as error:
                raise self._skip_malformed(error) from None
            if any(map(str.strip, cells)):
                return cells

    def _lines(self) -> Iterator[str]:
        while (line := self._pushed_back.popleft() if self._pushed_back else next(self._source, None)) is not None:
            self._read += 1
            self._record.append(line)
            yield line

    def _skip_malformed(self, error: csv.Error) -> KoviltError:
        """The message about a malformed row. Reading continues in the line after that of the wrong cell."""
        text, at = ''.join(self._record), 0
        while cell := _CELL.match(text, at):
            at = cell.end()
        if at == len(text):  # no quote is wrong
            at = text.rfind('\n', 0, -1) + 1
        before = text.count('\n', 0, at)
        self._pushed_back.extendleft(self._record[:before:-1])
        self._read = self._line + before
        self._reader = csv.reader(self._lines(), strict=True)
        reason, remedy = str(error), 'a cell with a quote, comma or line needs "quotes" around it'
        if text[at : at + 1] == '"' and ('limit' in reason or 'end of data' in reason):
            reason, remedy = 'a quote (") opens a cell and does not close it', 'close it, or write "" for a quote'
        elif 'limit' in reason:
            reason = f'a cell of more than {csv.field_size_limit():,} characters'
        elif '\r' in text[at:].rstrip('\r\n'):
            reason, remedy = 'a carriage return ends no line', 'save the file with the line ends of Windows or Linux'
        return KoviltError(f'{self.path}, line {self._line + before}: not CSV ({reason}); {remedy}')

    def _read_header(self) -> None:
        """Read and check the names of the columns.

        Raises:
            KoviltError: they are not those of a table of questions; no row can be read then.
        """
        self._columns = []
        try:
            names = [normalize_korean(name) for name in self._next_cells()]
        except StopIteration:
            return
        place, found = f'{self.path}, line {self._line}', ', '.join(map(repr, names))
        for separator, kind in (('\t', 'tabs'), (';', 'semicolons')):
            if len(names) == 1 and separator in self._record[-1]:
                raise KoviltError(f'{place}: {kind} between the columns {found}; put commas there (Excel: "CSV UTF-8")')
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise KoviltError(f'{place}: two columns are called {repeated[0]!r}, of {found}; keep or rename one')
        if '' in names[1:]:
            raise KoviltError(f'{place}: column {names.index("", 1) + 1} has no name, of {found}; name or remove it')
        ours = map_names(names, self._given, place, 'column')
        check_names(ours, place, 'column', needs_answer=self._needs_answer, given=names)
        self._columns = ours


def _whole_columns(table: CSVTable) -> list[str]:
    """The columns of answers whose cells are whole numbers, some of them written as 3.0."""
    numbers, with_point = {'answer', 'answers', 'answer_type'} & {*(table._columns or ())}, set[str]()
    while numbers:
        try:
            row = table._next_row()
        except StopIteration:
            break
        except KoviltError:
            continue
        for name in tuple(numbers):
            for text in row[name].split(_ANSWER_SEPARATOR):
                if text.strip() and not _NUMBER.fullmatch(text.strip()):
                    numbers.discard(name)
                elif text.strip().endswith('.0'):
                    with_point.add(name)
    return sorted(numbers & with_point)


def _without_point(text: str) -> str:
    found = _WHOLE.fullmatch(text.strip())
    return found[1] if found else text
