"""Reads a split with the reader that training uses, and records each row with its file and line and each refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kovilt.datasets.readers.base import Reader
from kovilt.datasets.readers.json_rows import RowSource, describe_place
from kovilt.datasets.rows import FoundImage, ReadReport, RowCollector, clean_records
from kovilt.datasets.table import CATEGORY, CATEGORY_LIST, STRING
from kovilt.errors import KoviltError
from kovilt.unanswerable import UNANSWERABLE
from kovilt.verification.findings import Findings
from kovilt.verification.sources import DataSource
from kovilt.verification.texts import answer_faults, text_faults

_COLUMNS = {
    'text': STRING,
    'question_id': STRING,
    'answer': CATEGORY,
    'answer_type': CATEGORY,
    'answers': CATEGORY_LIST,
    'file': CATEGORY,
    'line': pa.int64(),
    'column': pa.int32(),
}


class SplitRows:
    """The rows of a split as columns of Arrow, in the order of reading, normalized.

    Attributes:
        text: question or caption.
        answer: '' where there is none, as in captions.
        answers: of several people, where there are several.
        question_id, answer_type: '' where there is none.
        images: int32 (rows,), image numbers: positions in `places` and `identities`.
        places: where the images lie.
        identities: int64 (images,), a hash of source and id.
        refused: number of files and rows that the reader refused.
    """

    def __init__(self, source: DataSource) -> None:
        self.source, self.refused = source, 0
        self._collector = RowCollector(_COLUMNS)

    def append(self, text: str, values: dict[str, Any], image: FoundImage, rows: RowSource | None) -> None:
        """Add the row that `rows` read last; `values` holds its columns."""
        row = {
            'text': text,
            'answers': values.get('answers', ()),
            'file': str(rows.path if rows else self.source.place),
            'line': rows.line if rows else 0,
            'column': rows.column if rows else 0,
            **{name: values.get(name, '') for name in ('question_id', 'answer', 'answer_type')},
        }
        self._collector.append(row, image)

    def freeze(self) -> None:
        """End reading: nothing can be appended afterwards."""
        table, self.places = self._collector.finish()
        self.text, self.question_id = table['text'], table['question_id']
        self.answer, self.answer_type, self.answers = table['answer'], table['answer_type'], table['answers']
        self._files, self._lines, self.images = table['file'], table['line'], table['image'].to_numpy()
        self._columns = table['column']
        self.identities = self.places.image_ids

    def __len__(self) -> int:
        return len(self.text)

    def place(self, row: int) -> str:
        """As `RowSource.place`, or the number of the row where the reader gives no line."""
        file, line, column = (values[row].as_py() for values in (self._files, self._lines, self._columns))
        return describe_place(file, line, column) if line else f'{file}, row {row}'

    def first_rows(self) -> dict[int, int]:
        """Image number -> its first row."""
        images, rows = np.unique(self.images, return_index=True)
        return dict(zip(images.tolist(), rows.tolist(), strict=True))

    def count_answers(self) -> Counter[str]:
        """Answer -> number of its rows."""
        rows = _count_values(self.answer)
        del rows['']
        return rows

    def count_answer_types(self) -> Counter[str]:
        """Type of answer -> number of its rows."""
        return _count_values(self.answer_type)


def _count_values(column: pa.DictionaryArray) -> Counter[str]:
    counts = np.bincount(column.indices, minlength=len(column.dictionary)).tolist()
    return Counter(dict(zip(column.dictionary.to_pylist(), counts, strict=True)))


def read_split(source: DataSource, findings: Findings) -> SplitRows:
    """Read all rows of a split; refusals of the reader and faults of single rows are added to the findings."""
    split = SplitRows(source)
    before = _count_refusals(findings)
    try:
        _read_rows(source.reader(**source.options), split, findings)
    except KoviltError as error:  # behind which the reader cannot continue
        add_refusal('set.refused', error, findings)
    split.freeze()
    split.refused = _count_refusals(findings) - before
    return split


def _count_refusals(findings: Findings) -> int:
    return findings.times['set.refused'] + findings.times['labels.refused']


def _read_rows(reader: Reader, split: SplitRows, findings: Findings) -> None:
    for record, values in clean_records(reader, _FindingsReport(split.source, findings)):
        rows = record.get('source')
        for code, description in _row_faults(record, values, reader):
            findings.add(code, rows.place if rows else split.source.place, description)
        if text := values[reader.TEXT]:
            split.append(text, values, record['image'], rows)


class _FindingsReport(ReadReport):
    """Records everything in the findings, so that the reader continues."""

    def __init__(self, source: DataSource, findings: Findings) -> None:
        super().__init__()
        self._source, self._findings = source, findings

    def leave_out(self, reason: str, source: RowSource | None, rows: int = 1) -> None:
        if source is None:
            self._findings.add('row.left_out', self._source.place, f'{reason} ({rows:,} rows)')
        else:
            self._findings.add('row.left_out', source.place, reason)

    def refuse(self, error: KoviltError) -> None:
        add_refusal('labels.refused', error, self._findings)


def add_refusal(code: str, error: KoviltError, findings: Findings) -> None:
    """Add the error of a reader, whose message is '<place>: <description>; <remedy>'."""
    place, _, description = str(error).partition(': ')
    findings.add(code, place, description or place)


def _row_faults(row: dict[str, Any], values: dict[str, Any], reader: Reader) -> Iterator[tuple[str, str]]:
    raw = row.get(reader.TEXT)
    yield from ((f'text.{name}', description) for name, description in text_faults('' if raw is None else str(raw)))
    if 'answer' not in reader.COLUMNS:
        return
    if not values['answer']:
        yield 'answer.empty', 'there is no answer'
    for answer in dict.fromkeys([row.get('answer'), *(row.get('answers') or ())]):
        if answer is not None:
            yield from ((f'answer.{name}', description) for name, description in answer_faults(str(answer)))
    if row.get('answerable') in (0, 1):
        says, kind = bool(row['answerable']), values.get('answer_type', '')
        if kind and says != (kind != UNANSWERABLE):
            yield 'type.disagrees', f'answerable is {int(says)}, but answer_type {kind!r}'
    if not values['question_id']:
        yield 'id.empty', 'the question_id is blank'
