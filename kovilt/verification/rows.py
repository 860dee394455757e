"""Reads a split with the reader that training uses, and records each row with its file and line and each refusal."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pyarrow as pa

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.table import CATEGORY, CATEGORY_LIST, STRING, TableBuilder
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.sources import DataSource
from kovilt.verification.texts import answer_faults, text_faults

_COLUMNS = {
    'text': STRING,
    'question_id': STRING,
    'answer': CATEGORY,
    'answer_type': CATEGORY,
    'answers': CATEGORY_LIST,
    'image': pa.int32(),
    'file': CATEGORY,
    'line': pa.int64(),
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
        self._builder = TableBuilder(_COLUMNS)

    def append(self, values: dict[str, Any], image: int, rows: RowSource | None) -> None:
        """Add the row that `rows` read last; `values` holds its columns."""
        row = {
            'text': values[self.source.reader.TEXT],
            'answers': values.get('answers', ()),
            'image': image,
            'file': str(rows.path if rows else self.source.place),
            'line': rows.line if rows else 0,
        }
        self._builder.append(row | {name: values.get(name, '') for name in ('question_id', 'answer', 'answer_type')})

    def freeze(self, places: ImageStore) -> None:
        """End reading: nothing can be appended afterwards."""
        table = self._builder.finish()
        self.text, self.question_id = table['text'], table['question_id']
        self.answer, self.answer_type, self.answers = table['answer'], table['answer_type'], table['answers']
        self._files, self._lines, self.images = table['file'], table['line'], table['image'].to_numpy()
        self.places, self.identities = places.freeze(), places.image_ids

    def __len__(self) -> int:
        return len(self.text)

    def place(self, row: int) -> str:
        """'<file>, line <n>', or the number of the row where the reader gives no line."""
        file, line = self._files[row].as_py(), self._lines[row].as_py()
        return f'{file}, line {line}' if line else f'{file}, row {row}'

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
        reader = _tolerant_reader(source.reader, findings)(
            **source.options, image_pipeline=[], text_pipeline=[], test_mode=True
        )
    except KoviltError as error:
        add_refusal('set.refused', error, findings)
        split.freeze(ImageStore())
    else:
        _read_rows(reader, split, findings)
        split.freeze(reader.image_store)
    split.refused = _count_refusals(findings) - before
    return split


def _count_refusals(findings: Findings) -> int:
    return findings.times['set.refused'] + findings.times['labels.refused']


def _read_rows(reader: PairDataset, split: SplitRows, findings: Findings) -> None:
    for row in _tolerant_rows(reader, findings):
        values, rows = reader.clean_row(row), row.get('source')
        for code, description in _row_faults(row, values, reader):
            findings.add(code, rows.place if rows else split.source.place, description)
        if values[reader.TEXT]:
            split.append(values, reader.number_image(row), rows)
    for reason, count in reader.left_out.items():
        findings.add('row.left_out', split.source.place, f'{reason} ({count:,} rows)')


def _tolerant_rows(reader: PairDataset, findings: Findings) -> Iterator[dict[str, Any]]:
    """The rows of a reader up to an error after which it cannot continue, which is recorded."""
    try:
        yield from reader.load_data_list()
    except KoviltError as error:
        add_refusal('set.refused', error, findings)


def add_refusal(code: str, error: KoviltError, findings: Findings) -> None:
    """Add the error of a reader, whose message is '<place>: <description>; <remedy>'."""
    place, _, description = str(error).partition(': ')
    findings.add(code, place, description or place)


def _row_faults(row: dict[str, Any], values: dict[str, Any], reader: PairDataset) -> Iterator[tuple[str, str]]:
    raw = row.get(reader.TEXT)
    yield from ((f'text.{name}', description) for name, description in text_faults('' if raw is None else str(raw)))
    if 'answer' not in reader.COLUMNS:
        return
    if not values['answer']:
        yield 'answer.empty', 'there is no answer'
    for answer in dict.fromkeys([row.get('answer'), *(row.get('answers') or ())]):
        if answer is not None:
            yield from ((f'answer.{name}', description) for name, description in answer_faults(str(answer)))
    if not values['question_id']:
        yield 'id.empty', 'the question_id is blank'


def _tolerant_reader(reader: type[PairDataset], findings: Findings) -> type[PairDataset]:
    """A subclass of a reader that reads nothing when it is built, and continues after an error, which it records."""

    class TolerantReader(reader):  # type: ignore[valid-type, misc]  # mypy allows no variable as a base class
        guard = _RecordRefusals(findings)

        def _open_rows(self, limit: int | None) -> None:
            """Rows are read one by one, by `_tolerant_rows`."""

        def leave_out(self, reason: str, source: RowSource, rows: int = 1) -> None:
            findings.add('row.left_out', source.place, reason)

    return TolerantReader


class _RecordRefusals(AbstractContextManager):
    """Adds a KoviltError to the findings and suppresses it; stateless, so that uses of it may be nested."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        if isinstance(error, KoviltError):
            add_refusal('labels.refused', error, self.findings)
            return True
        return False
