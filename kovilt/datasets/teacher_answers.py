"""What another model, the teacher, answers to the questions of a data set, from which a student learns (distillation).

`kovilt distill` writes an Arrow file, a row for each question:

    question_id         of the data set
    image_id            the identity of the image, the same wherever the data set lies
    question            normalized
    answers             the teacher's best answers, the best first
    log_probabilities   float32, of these among all answers of the teacher

Any other model's answers are a JSONL file with lines {"question_id": ..., "answers": {"빨간색": 0.7, ...}} or {"image":
..., "question": ..., "answers": {...}}, in the forms of weights that `read_answers` takes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kovilt.datasets.answer_maps import fold, load_answer_map
from kovilt.datasets.answers import AnswerVocabulary, read_answers
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.json_rows import RowSource, required
from kovilt.datasets.rng import hash63, hash_texts
from kovilt.datasets.rows import RowSet
from kovilt.datasets.shared_array import share
from kovilt.datasets.table import CATEGORY_LIST, STRING, Table, TableBuilder, digest_table, map_table, write_table
from kovilt.datasets.values import check_text
from kovilt.errors import KoviltError, nearest
from kovilt.files import read_json_lines

COLUMNS = {
    'question_id': STRING,
    'image_id': pa.int64(),
    'question': STRING,
    'answers': CATEGORY_LIST,
    'log_probabilities': pa.list_(pa.float32()),
}
SUFFIX = '.arrow'
_KEY = b'kovilt'  # of the metadata of the file
_FORMAT = 1
_NO_IMAGE = -1  # in the column image_id, of a line without an image or with one that is unknown; ids are not negative
_TOLERANCE = 1e-3  # of a logarithm above 0, by rounding
_MIX = np.uint64(0x9E3779B97F4A7C15)  # any odd number with many bits set


def write_teacher_answers(path: str | Path, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> int:
    """Write the Arrow file, whole or not at all, and return the number of its rows; `about` becomes its metadata.

    Raises:
        KoviltError: the file cannot be written.
    """
    builder = TableBuilder(COLUMNS)
    for row in rows:
        builder.append(row)
    content = json.dumps({'format': _FORMAT, **about, 'rows': len(builder)}, ensure_ascii=False)
    rows_written = len(builder)
    try:
        write_table(path, builder.finish(), {_KEY: content.encode()})
    except OSError as error:
        raise KoviltError(f'{path}: cannot be written ({error.strerror or error})') from error
    return rows_written


class Coverage(NamedTuple):
    """How much of the teacher's answers a student can learn from."""

    rows: int  # of the dataset
    scored: int  # of which the teacher has answers that the student knows
    outside: float  # share of the listed probability that falls on answers outside the student's vocabulary, 0 to 1

    def __str__(self) -> str:
        lacking = self.rows - self.scored
        alone = f'; {lacking:,} rows have no scores and train on their labels alone' if lacking else ''
        return (
            f'scores for {self.scored:,} of {self.rows:,} rows; {self.outside:.2%} of their probability falls on '
            f'answers outside the vocabulary{alone}'
        )


class TeacherAnswers:
    """The teacher's scores for the rows of a data set, matched by image and question, or by question_id.

    The arrays over rows concern all rows of the table, whether a dataset uses them or not.

    Args:
        path: a file as described above, .arrow or .jsonl.
        row_set: the rows of the student's data.
        vocabulary: of the student.
        rows: int (n,): the rows in use, which `coverage` counts.

    Attributes:
        coverage: of the rows in use.

    Raises:
        KoviltError: no such file, a damaged or malformed one, values that are no probabilities, scores of other data.
    """

    def __init__(self, path: str | Path, *, row_set: RowSet, vocabulary: AnswerVocabulary, rows: np.ndarray) -> None:
        self._table = _read_jsonl(path, row_set.images) if str(path).endswith('.jsonl') else _open_arrow(path)
        self._size = len(vocabulary)
        items = self._table['answers'].values
        answers = items.dictionary.to_pylist()
        if name := getattr(row_set.reader, 'answer_map', None):
            answer_map = load_answer_map(name)
            answers = [answer_map.get(fold(answer), answer) for answer in answers]
        self._labels = vocabulary.classes(map(normalize_korean, answers))  # int64 (answers,), -1 = the student lacks it
        found = _match(path, self._table, row_set)  # int64 (stored rows,), -1 = none
        offsets = self._table['answers'].offsets.to_numpy()
        known = self._labels[items.indices.to_numpy()] >= 0  # bool (items,)
        before = np.concatenate([[0], np.cumsum(known)])  # (items + 1,): known ones before each
        found[(found >= 0) & (before[offsets[found + 1]] == before[offsets[found]])] = -1
        self._rows = share(found.astype(np.int32))  # (stored rows,): the row of each in the teacher's table, or -1
        self.coverage = self._measure(rows, known)

    def log_probabilities(self, stored: int) -> np.ndarray:
        """float32 (C,): the teacher's log-probability of each answer of the vocabulary for a row of the table.

        -inf = the teacher does not list the answer; all are -inf where it has no scores for the row.
        """
        found = np.full(self._size, -np.inf, dtype=np.float32)
        row = int(self._rows[stored])
        if row >= 0:
            labels = self._labels[self._table['answers'][row].values.indices.to_numpy()]
            values = self._table['log_probabilities'][row].values.to_numpy()
            np.logaddexp.at(found, labels[labels >= 0], values[labels >= 0])  # two texts may be one answer
        return found

    def digest(self) -> bytes:
        """A digest of all scores and of the rows that they belong to."""
        digest = hashlib.blake2b(digest_table(self._table), digest_size=16)
        digest.update(np.ascontiguousarray(self._rows).data)
        return digest.digest()

    def _measure(self, rows: np.ndarray, known: np.ndarray) -> Coverage:
        used = self._rows[rows]
        used = np.asarray(used[used >= 0])
        shares = np.exp(self._table['log_probabilities'].values.to_numpy().astype(np.float64))  # (items,)
        starts = self._table['answers'].offsets.to_numpy()
        sums = [np.concatenate([[0], np.cumsum(part)]) for part in (shares * ~known, shares)]
        outside, total = (float((part[starts[used + 1]] - part[starts[used]]).sum()) for part in sums)
        return Coverage(len(rows), len(used), outside / total if total else 0.0)


# Reading the files.


def _open_arrow(path: str | Path) -> Table:
    table = map_table(path)
    for name, kind in COLUMNS.items():
        if name not in table or table[name].type != kind:
            raise KoviltError(
                f"{path}: no file of a teacher's answers, it has no column {name!r} of type {kind}; kovilt distill "
                'writes one'
            )
    lengths = table['answers'].value_lengths().to_numpy()
    if not np.array_equal(lengths, table['log_probabilities'].value_lengths().to_numpy()):
        raise KoviltError(f'{path}: damaged, not as many log_probabilities as answers; write it again: kovilt distill')
    values = table['log_probabilities'].values.to_numpy()
    wrong = np.flatnonzero(~(np.isfinite(values) & (values <= _TOLERANCE)))
    if len(wrong):
        row = int(np.searchsorted(table['answers'].offsets.to_numpy(), wrong[0], side='right')) - 1
        raise KoviltError(
            f'{path}, row {row}: log_probabilities has {values[wrong[0]]}, not the logarithm of a number from 0 to 1; '
            'write it again: kovilt distill'
        )
    return table


def _read_jsonl(path: str | Path, images: ImageStore) -> Table:
    builder, seen, find_image = TableBuilder(COLUMNS), dict[tuple[str, ...], int](), _ImageIds(images)
    for number, line in read_json_lines(path, 'table'):
        source = _Line(path, number)
        if 'answers' not in line:
            raise KoviltError(f"{source.place}: no 'answers' in this line{nearest('answers', line)}")
        has_image = line.get('image') is not None
        if line.get('question_id') is None and not (has_image and 'question' in line):
            near = nearest('question_id', line)
            raise KoviltError(f"{source.place}: neither 'question_id' nor 'image' and 'question' in this line{near}")
        weights = read_answers(line, source)
        if not weights.get('answer_weights'):
            remedy = 'write {"answer": probability, ...}'
            raise KoviltError(f"{source.place}: 'answers' has no probabilities; {remedy}")
        names = ('question_id', 'image', 'question')
        key = tuple('' if line.get(name) is None else required(line, name, source) for name in names)
        if key in seen:
            raise KoviltError(f'{source.place}: the same question as in line {seen[key]}; remove one')
        seen[key] = number
        check_text(line.get('question'), 'question', source)
        order = np.argsort(-np.array(weights['answer_weights']), kind='stable').tolist()
        builder.append(
            {
                'question_id': normalize_korean(key[0]),
                'image_id': find_image(key[1]) if has_image else _NO_IMAGE,
                'question': normalize_korean(key[2]),
                'answers': [weights['answers'][n] for n in order],
                'log_probabilities': [float(np.log(weights['answer_weights'][n])) for n in order],
            }
        )
    if not len(builder):
        raise KoviltError(f'{path}: holds no answers')
    return builder.finish()


class _Line(RowSource):
    def __init__(self, path: str | Path, number: int) -> None:
        super().__init__(path)
        self._number = number

    @property
    def line(self) -> int:
        return self._number


class _ImageIds:
    """Finds the id of an image by what a line calls it: its identity, its path, or its file name if only one has it."""

    def __init__(self, images: ImageStore) -> None:
        self._images, self._ids = images, set(images.image_ids.tolist())
        self._by_name: dict[str, int] | None = None

    def __call__(self, text: str) -> int:
        name = normalize_korean(text)
        if (number := hash63(name)) in self._ids:
            return number
        if self._by_name is None:
            self._by_name = self._index()
        return self._by_name.get(name, self._by_name.get(os.path.basename(name), _NO_IMAGE))

    def _index(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for number, image_id in enumerate(self._images.image_ids.tolist()):
            path = normalize_korean(self._images.name(number))
            found[path] = image_id
            file = os.path.basename(path)
            found[file] = image_id if file not in found else _NO_IMAGE
        return found


# Matching rows.


def _match(path: str | Path, table: Table, row_set: RowSet) -> np.ndarray:
    """int64 (stored rows,): the row of the teacher's table for each row of the data, -1 = none.

    Raises:
        KoviltError: none matches, a question_id of several rows, or one that belongs to another question.
    """
    rows = row_set.table
    questions, theirs = hash_texts(rows['question']), hash_texts(table['question'])
    images = row_set.images.image_ids[row_set.row_images]
    their_images = table['image_id'].to_numpy()
    with_image = (their_images >= 0) & (theirs != 0)  # else a question_id counts, if there is one
    found = _look_up(_pair_keys(their_images, theirs), _pair_keys(images, questions), among=with_image)
    ids = hash_texts(rows['question_id'])
    by_id = np.where(ids == 0, -1, _look_up(hash_texts(table['question_id']), ids, among=~with_image))
    matched = np.flatnonzero(by_id >= 0)
    values, counts = np.unique(by_id[matched], return_counts=True)
    if len(several := values[counts > 1]):
        name = table['question_id'][several[0]].as_py()
        raise KoviltError(
            f"{path}: question_id {name!r} stands for several rows of {row_set.reader.data_root}; write 'image' and "
            "'question' instead"
        )
    their_questions = theirs[by_id[matched]]
    other = np.flatnonzero((their_questions != 0) & (their_questions != questions[matched]))
    if len(other):
        row, theirs_row = matched[other[0]], by_id[matched[other[0]]]
        raise KoviltError(
            f'{path}: question_id {rows["question_id"][row].as_py()!r} is the question '
            f'{table["question"][theirs_row].as_py()[:40]!r} there, and {rows["question"][row].as_py()[:40]!r} in '
            f'{row_set.reader.data_root}; these are answers to other data'
        )
    found = np.where(found >= 0, found, by_id)
    if not (found >= 0).any():
        raise KoviltError(
            f'{path}: none of its {len(theirs):,} rows is a question of {row_set.reader.data_root}, split '
            f'{row_set.reader.split!r}; these are answers to other data'
        )
    return found


def _pair_keys(image_ids: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """uint64 (n,): a key of each pair of an image and a question."""
    return (image_ids.astype(np.uint64) * _MIX) ^ questions


def _look_up(keys: np.ndarray, wanted: np.ndarray, *, among: np.ndarray) -> np.ndarray:
    """int64 (wanted,): where each of `wanted` first stands in `keys`, of those that `among` marks; -1 = nowhere."""
    rows = np.flatnonzero(among)
    if not len(rows):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = rows[np.argsort(keys[rows], kind='stable')]
    place = np.minimum(np.searchsorted(keys[order], wanted), len(order) - 1)
    return np.where(keys[order[place]] == wanted, order[place], -1)
