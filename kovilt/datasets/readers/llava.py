"""Reads conversations about images, as LLaVA is trained on: rows of `image` and `conversations` in JSON or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from kovilt.datasets.folders import Folder
from kovilt.datasets.readers.column_names import missing_columns
from kovilt.datasets.readers.json_rows import JSONRows, RowSource, read_rows
from kovilt.datasets.readers.parquet import CellTable, cell_files
from kovilt.datasets.readers.table_reader import TableReader, split_files
from kovilt.datasets.readers.tables import JSONLines, TableFile
from kovilt.datasets.table_files import read_schema
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.files import open_file, read_lines
from kovilt.json_text import parse_json
from kovilt.ranges import check_arguments
from kovilt.registry import READERS

Turns = Literal['first', 'all']

LISTS = ('conversations', 'messages')
_SPEAKERS, _TEXTS = ('from', 'role'), ('value', 'content')
_ASKING, _ANSWERING = ('human', 'user'), ('gpt', 'assistant', 'model')
_IMAGE = '<image>'


class ConversationTable(TableFile):
    """Gives a row for the first question of each conversation, or for every one, with the answer that follows it.

    Raises:
        KoviltError: a malformed file, several images, turns that are none.
    """

    def __init__(
        self,
        path: Path,
        *,
        needs_answer: bool = True,
        columns: Mapping[str, str] | None = None,
        turns: Turns = 'first',
    ) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._turns, self._number = turns, -1
        self._pending: Iterator[dict[str, Any]] = iter(())
        self._source: RowSource | None = None  # known with the first conversation
        self._next: Callable[[], Any]
        if path.suffix.lower() == '.jsonl':
            self._source = lines = JSONLines(path)
            self._next = lines.next_object
        elif path.suffix.lower() == '.json':
            self._next = self._read_json().__next__
        else:
            self._source = cells = _ConversationCells(path)
            self._next = cells.__next__

    @property
    def line(self) -> int:
        return 0 if self._source is None else self._source.line

    @property
    def column(self) -> int:
        return 0 if self._source is None else self._source.column

    @property
    def number(self) -> int:
        return self._number

    def __next__(self) -> dict[str, Any]:
        while (row := next(self._pending, None)) is None:
            self._pending = iter(self._rows(self._next()))
        self._number += 1
        return row

    def _read_json(self) -> Iterator[Any]:
        for row, source in read_rows(self.path, None):
            self._source = source
            yield row

    def _rows(self, row: Any) -> list[dict[str, Any]]:
        """The rows of one conversation."""
        if not isinstance(row, dict):
            raise KoviltError(f'{self.place}: expecting an object, found {str(row)[:40]!r}')
        key = next((name for name in LISTS if name in row), None)
        if key is None or not isinstance(row[key], list):
            raise KoviltError(f'{self.place}: no list {" or ".join(map(repr, LISTS))} in this row; every row needs it')
        image = row.get('image', row.get('images'))
        images = image if isinstance(image, list) else [] if image is None else [image]
        if len(images) != 1:
            what = f'{len(images)} images' if images else 'no image'
            raise KoviltError(f'{self.place}: {what} in this conversation; a question is about one image')
        found: list[dict[str, Any]] = []
        for turn in row[key]:
            speaker, text = self._turn(turn, key)
            if speaker in _ASKING:
                if text.count(_IMAGE) > 1:
                    raise KoviltError(f'{self.place}: {text.count(_IMAGE)} times {_IMAGE} in a question; one is read')
                number = f'-{len(found)}' if found else ''
                own = row.get('id', row.get('question_id'))
                question_id = None if own is None else text_of(own, 'id', self.place) + number
                question = text.replace(_IMAGE, ' ').strip()
                found.append({'image': images[0], 'question': question, 'answer': None, 'question_id': question_id})
            elif speaker in _ANSWERING and found and found[-1]['answer'] is None:
                found[-1]['answer'] = text
        return found if self._turns == 'all' else found[:1]

    def _turn(self, turn: Any, key: str) -> tuple[str, str]:
        values = turn if isinstance(turn, dict) else {}
        speaker = next((values[name] for name in _SPEAKERS if name in values), None)
        text = next((values[name] for name in _TEXTS if name in values), None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            shown = str(turn)[:40]
            raise KoviltError(f"{self.place}: {key!r} holds {shown!r}; a turn is {{'from': 'human', 'value': '...'}}")
        return speaker, text


class _ConversationCells(CellTable):
    """As CellTable; its rows have `image`, a list of turns and maybe an id, and no questions."""

    def used_columns(self, names: Sequence[str], given: Sequence[str]) -> list[str]:
        if 'image' not in names:
            raise missing_columns(['image'], given, str(self.path), 'column', "'image' and a list of turns")
        return ['image', 'question_id', *LISTS]


@READERS.register_module()
class LLaVAReader(TableReader):
    """Reader of conversations in `data_root`: [{"id", "image", "conversations": [{"from", "value"}, ...]}, ...].

    A file is JSON (a list) or JSONL in `data_root` itself, or else Parquet, or of a folder that `save_to_disk` wrote,
    beneath it; images may lie in JSONL and in the cells. `messages` with `role` and `content` are read as well.
    `<image>` is taken out of a question. The split of a file is a word of its name, and 'train' where none is. Answers
    of conversations are sentences, of which few occur twice: only those that do become classes.

    Args:
        turns: 'first': the first question of a conversation and its answer; 'all': every question is a row of its own,
            which must make sense without those before it.
        others: as in TableReader; there are no `columns`.

    Layout and keys: haotian-liu/LLaVA.
    """

    SUFFIXES = ('.json', '.jsonl', '.parquet')
    MAPS_COLUMNS = False
    HOW_TO_GET = 'Put the JSON file there, [{"image": "a.jpg", "conversations": [...]}, ...], and the images beneath'

    @check_arguments
    def __init__(self, *, turns: Turns = 'first', **others: Any) -> None:
        super().__init__(**others)
        self.turns = turns
        if self.columns:
            raise KoviltError('columns: conversations have none; leave it out')

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        named = split_files(folders[:1], ('.json', '.jsonl'), has_conversations)
        return named.get(split, []) if named else cell_files(split, folders, has_conversations)

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        return ConversationTable(path, needs_answer=needs_answer, turns=self.turns)


def has_conversations(path: Path) -> bool:
    """Whether a JSON or JSONL file begins with a conversation, or a table of `datasets` has a column of them."""
    try:
        if path.suffix.lower() in ('.parquet', '.arrow'):
            return not set(LISTS).isdisjoint(read_schema(str(path)).names)
        if path.suffix.lower() == '.jsonl':
            row = next((parse_json(text, path) for text in islice(read_lines(path, 'archive'), 1)), None)
        else:
            with open_file(path, 'labels') as stream:
                key, row = next(iter(JSONRows(stream, path)), ('', None))
                row = row if key is None else None
    except KoviltError:  # which the reader of the file reports
        return False
    return isinstance(row, dict) and any(isinstance(row.get(name), list) for name in LISTS)
