"""Reads JSON files that are too large for memory, one row at a time.

`ijson` cannot do this: its errors name neither line nor column, the last of two equal keys wins, and a number of 5,000
digits ends the process with a segmentation fault in its C backend.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from kovilt import files
from kovilt.datasets.values import check_text, text_of
from kovilt.errors import KoviltError, nearest
from kovilt.json_text import MAX_VALUE, RefusedJSON, decode_value, describe_error, encoding_error, skip_blanks

_CHUNK = 1 << 20  # characters read at a time
_LONGEST_TOKEN = 20  # characters; an error so close to the end of the buffer may be a token that continues behind it


class RowSource(ABC):
    """A file that is read row by row and knows the place of the latest row."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def line(self) -> int:
        """The line in which the latest row begins."""

    @property
    def column(self) -> int:
        """The column in which it begins, 0 = it is the first of its line. A file may have all rows in one line."""
        return 0

    def __str__(self) -> str:
        return self.place

    @property
    def place(self) -> str:
        """As `describe_place`."""
        return describe_place(self.path, self.line, self.column)


def describe_place(path: str | Path, line: int, column: int) -> str:
    """The file, the line and, if the row is not the first of its line, the column, for messages.

    Files without lines have rows, which count from 0, as their libraries do.
    """
    if str(path).lower().endswith(('.parquet', '.arrow')):
        return f'{path}, row {line - 1}'
    return f'{path}, line {line}' + (f', column {column}' if column else '')


def required(row: Any, key: str, source: RowSource) -> str:
    """`row[key]` as a string, by the rule of `text_of`: ids come as numbers or strings.

    Raises:
        KoviltError: `row` is no object, or has no such value.
    """
    if not isinstance(row, dict):
        raise KoviltError(f'{source.place}: expecting an object, found {str(row)[:40]!r}')
    value = row.get(key)
    if value is None:
        raise KoviltError(f'{source.place}: no {key!r} in this row{nearest(key, row)}; every row needs it')
    return text_of(value, key, source)


def required_text(row: Any, key: str, source: RowSource) -> str:
    """As `required`, for questions: a number is refused."""
    text = required(row, key, source)
    check_text(row[key], key, source)
    return text


def read_rows(
    path: str | Path, key: str | None, *, open_file: Callable[[], IO[bytes]] | None = None
) -> Iterator[tuple[Any, JSONRows]]:
    """The rows of the list under `key` of a JSON file, each with the `JSONRows` that knows its place.

    Args:
        key: of the top-level object; None = the file is a list.
        open_file: opens the file where `path` is only its name, as in a zip.

    Raises:
        KoviltError: as `JSONRows`, the file cannot be opened, or it has no such list.
    """
    with open_file() if open_file else files.open_file(path, 'labels') as stream:
        source = JSONRows(stream, path)
        yield from ((row, source) for found, row in source if found == key)
    if key not in source.lists:
        raise KoviltError(f'{path}: has no list {f"under {key!r}" if key else "of rows"}; is it the right file?')


class JSONRows(RowSource):
    """Iterates over the rows of a UTF-8 JSON file as (key, row).

    A row is an element of the top-level list (its key is None) or of a list under `key` in the top-level object. Other
    values of the top-level object are skipped. About a megabyte of the file is in memory at a time, so that it may have
    any size, in any number of lines; one row has at most MAX_VALUE characters.

    Args:
        stream: the file, opened in binary mode; a byte-order mark is accepted.
        path: the name of the file in messages.

    Attributes:
        lists: the keys of the lists that were found so far, None for a top-level list.

    Raises:
        KoviltError: the file cannot be read, is not UTF-8 or not JSON that `json_text` accepts, with the line and
            column where reading stopped.
    """

    def __init__(self, stream: IO[bytes], path: str | Path) -> None:
        super().__init__(path)
        self._text = io.TextIOWrapper(stream, encoding='utf-8-sig')
        self.lists: set[str | None] = set()
        self._buffer, self._at = '', 0  # the text being parsed, and the position of the parser in it
        self._row_at = 0  # where the latest row begins in the buffer
        # A position in the buffer, its line, and where that line begins (before 0: in text that was dropped). It moves
        # forward only, so that no character is searched twice.
        self._known = 0, 1, 0

    def __iter__(self) -> Iterator[tuple[str | None, Any]]:
        opening = self._peek()
        if opening == '[':
            self.lists.add(None)
            for _ in self._elements(']'):
                yield None, self._value()
        elif opening == '{':
            for _ in self._elements('}'):
                yield from self._member()
        else:
            self._fail('expecting a list or an object', self._at)
        if self._peek():
            self._fail('more text after the end of the data', self._at)

    @property
    def line(self) -> int:
        return self._position(self._row_at)[0]

    @property
    def column(self) -> int:
        _, column = self._position(self._row_at)
        begin = self._row_at + 1 - column
        return column if begin < 0 or self._buffer[begin : self._row_at].strip() else 0

    def _elements(self, closing: str) -> Iterator[None]:
        """Step to each element of a list or object, which the caller parses, and behind the closing bracket."""
        self._at += 1
        if self._peek() == closing:
            self._at += 1
            return
        expected = f',{closing}'
        while True:
            yield
            if self._step(expected) == closing:
                return

    def _member(self) -> Iterator[tuple[str, Any]]:
        """Parse a key of the top-level object and its value; give the rows of a list."""
        if self._peek() != '"':
            self._fail('expecting a name in double quotes', self._at)
        key = self._value()
        self._step(':')
        if self._peek() != '[':
            self._value()
            return
        self.lists.add(key)
        for _ in self._elements(']'):
            yield key, self._value()

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = decode_value(self._buffer, self._at)
            except json.JSONDecodeError as error:
                place, kind = error.pos - self._at, type(error)
                is_cut_off = len(self._buffer) - error.pos < _LONGEST_TOKEN or error.msg.startswith('Unterminated')
                if is_cut_off and len(self._buffer) - self._at > MAX_VALUE:
                    reason = f'the row that begins here has more than {MAX_VALUE:,} characters; is it the right file?'
                    self._fail(reason, self._at, RefusedJSON)
                if kind is RefusedJSON or not is_cut_off or not self._read_on():
                    self._fail(error.msg, self._at + place, kind)
            else:
                if end > len(self._buffer) - 3 and self._read_on():
                    continue  # a number may continue in the next chunk: 12|3, 1.5|e-3, 1.5e-|3
                self._row_at, self._at = self._at, end
                return value

    def _peek(self) -> str:
        """The next character that is not white space, '' at the end of the file."""
        while True:
            self._at = skip_blanks(self._buffer, self._at)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read_on():
                return ''

    def _step(self, expected: str) -> str:
        """Skip the next character, which must be one of `expected`."""
        found = self._peek()
        if not found or found not in expected:
            self._fail(f'expecting {" or ".join(map(repr, expected))}', self._at)
        self._at += 1
        return found

    def _read_on(self) -> bool:
        """Drop the parsed text and read another chunk; False at the end of the file."""
        try:
            chunk = self._text.read(_CHUNK)
        except UnicodeDecodeError as error:
            line, _ = self._position(len(self._buffer))
            raise encoding_error(f'{self.path}, after line {line}', error) from None
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:  # the last three: a damaged zip
            line, _ = self._position(len(self._buffer))
            raise KoviltError(
                f'{self.path}: cannot be read after line {line} ({error}); extract or download it again'
            ) from None
        if not chunk:
            return False
        self._position(self._at)
        at, line, begin = self._known
        self._known = at - self._at, line, begin - self._at
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return True

    def _position(self, at: int) -> tuple[int, int]:
        """Line and column in the file of a position in the buffer."""
        known, line, begin = self._known
        if newlines := self._buffer.count('\n', known, at):
            line, begin = line + newlines, self._buffer.rfind('\n', known, at) + 1
        self._known = max(known, at), line, begin
        return line, at - begin + 1

    def _fail(self, reason: str, at: int, kind: type[json.JSONDecodeError] = json.JSONDecodeError) -> NoReturn:
        line, column = self._position(at)
        description = describe_error(kind(reason, self._buffer, at))
        raise KoviltError(f'{self.path}, line {line}, column {column}: {description}') from None
