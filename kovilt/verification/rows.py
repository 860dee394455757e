"""Reads a split with the reader that training uses, notes what it refuses and keeps where each row stands."""

from __future__ import annotations

import types
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from kovilt.datasets.columns import CategoryColumn, ListColumn, TextColumn
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.readers.json_rows import Rows
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.sources import DataSource
from kovilt.verification.texts import answer_faults, text_faults


class SplitRows:
    """The rows of a split as flat columns, stored as they came and normalised.

    Attributes:
        text, answer: what was asked or told, and answered ('' without an answer; captions have none).
        answers: what several people answered, where they did.
        question_id, answer_type: '' where there is none.
        images: int32 (rows,), numbers in `places` and `identities`.
        places: where the images are, as their reader found them.
        identities: int64 (images,), source and id of each.
        refused: how much of it the reader refused to read.
    """

    def __init__(self, source: DataSource) -> None:
        self.source, self.refused = source, 0
        self.text, self.question_id = TextColumn(), TextColumn()
        self.answer, self.answer_type, self.answers = CategoryColumn(), CategoryColumn(), ListColumn()
        self.images, self.places, self.identities = array('i'), ImageStore(), array('q')
        self._files, self._lines = CategoryColumn(), array('q')

    def append(self, values: dict[str, Any], image: int, rows: Rows | None) -> None:
        self.text.append(values[self.source.reader.TEXT])
        for name in ('question_id', 'answer', 'answer_type'):
            getattr(self, name).append(values.get(name, ''))
        self.answers.append(values.get('answers', ()))
        self.images.append(image)
        self._files.append(str(rows.path if rows else self.source.place))
        self._lines.append(rows.line if rows else 0)

    def freeze(self, places: ImageStore, identities: array) -> None:
        for column in (self.text, self.question_id, self.answer, self.answer_type, self.answers, self._files):
            column.freeze()
        self.places, self.identities = places.freeze(), np.array(identities, dtype=np.int64)
        self.images, self._lines = np.array(self.images, dtype=np.int32), np.array(self._lines, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def place(self, row: int) -> str:
        """'<file>, line <n>'; the number of the row where the reader tells no line."""
        return f'{self._files[row]}, line {self._lines[row]}' if self._lines[row] else f'{self._files[row]}, row {row}'

    def first_rows(self) -> dict[int, int]:
        """Each image that a row speaks about -> the first such row."""
        images, rows = np.unique(self.images, return_index=True)
        return dict(zip(images.tolist(), rows.tolist(), strict=True))

    def answer_rows(self) -> Counter[str]:
        """Each answer -> in how many rows it is the answer."""
        counts = np.bincount(self.answer.codes, minlength=len(self.answer.values)).tolist()
        rows = Counter({self.answer.values[code]: count for code, count in enumerate(counts)})
        del rows['']
        return rows


def read_split(source: DataSource, findings: Findings) -> SplitRows:
    """All rows that the reader gives of a split. What it refuses, and what is wrong with a row alone, is noted."""
    split = SplitRows(source)
    before = _refusals(findings)
    try:
        reader = _lenient(source.reader, findings)(
            **source.options, image_pipeline=[], text_pipeline=[], test_mode=True
        )
    except KoviltError as error:
        note_refusal('set.refused', error, findings)
        split.freeze(ImageStore(), array('q'))
    else:
        _read_rows(reader, split, findings)
        split.freeze(reader._places, reader._image_ids)
    split.refused = _refusals(findings) - before
    return split


def _refusals(findings: Findings) -> int:
    return findings.counts['set.refused'] + findings.counts['labels.refused']


def _read_rows(reader: PairDataset, split: SplitRows, findings: Findings) -> None:
    for row in reader.rows():
        values, rows = reader._values(row), row.get('source')
        for code, what in _row_faults(row, values, reader):
            findings.add(code, rows.place if rows else split.source.place, what)
        if values[reader.TEXT]:
            split.append(values, reader._image_of(row), rows)
    for reason, count in reader.left_out.items():
        findings.add('row.left_out', split.source.place, f'{reason} ({count:,} rows)')


def note_refusal(code: str, error: KoviltError, findings: Findings) -> None:
    """A reader's message is '<place>: <what>; <remedy>'."""
    place, _, what = str(error).partition(': ')
    findings.add(code, place, what or place)


def _row_faults(row: dict[str, Any], values: dict[str, Any], reader: PairDataset) -> Iterator[tuple[str, str]]:
    raw = row.get(reader.TEXT)
    yield from ((f'text.{name}', what) for name, what in text_faults('' if raw is None else str(raw)))
    if 'answer' not in reader.COLUMNS:
        return
    if not values['answer']:
        yield 'answer.empty', 'there is no answer'
    for answer in dict.fromkeys([row.get('answer'), *(row.get('answers') or ())]):
        if answer is not None:
            yield from ((f'answer.{name}', what) for name, what in answer_faults(str(answer)))
    if not values['question_id']:
        yield 'id.empty', 'the question_id is blank'


def _lenient(kind: type[PairDataset], findings: Findings) -> type[PairDataset]:
    """The reader as a class that opens nothing by itself and notes what the original refuses."""

    class Lenient(kind):
        guard = _Noting(findings)

        def _open_rows(self, limit: int | None) -> None:
            """Rows are asked for one by one."""

        def rows(self) -> Iterator[dict[str, Any]]:
            try:
                yield from self.load_data_list()
            except KoviltError as error:
                note_refusal('set.refused', error, findings)

        def leave_out(self, reason: str, source: Rows, rows: int = 1) -> None:
            findings.add('row.left_out', source.place, reason)

    return Lenient


class _Noting(AbstractContextManager):
    """Notes a KoviltError and goes on; holds no state, so it may stand in itself."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        if isinstance(error, KoviltError):
            note_refusal('labels.refused', error, self.findings)
            return True
        return False
