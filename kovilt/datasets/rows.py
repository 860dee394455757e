"""The rows of a split: collected from a reader into an Arrow table and a store of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from kovilt.datasets.answer_maps import fold, load_answer_map
from kovilt.datasets.folders import locate
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.members import Member
from kovilt.datasets.rng import hash63, hash_texts
from kovilt.datasets.table import CATEGORY_LIST, NUMBER_LIST, Table, TableBuilder
from kovilt.datasets.values import check_text, text_of
from kovilt.errors import KoviltError

if TYPE_CHECKING:
    from kovilt.datasets.readers.base import Reader
    from kovilt.datasets.readers.json_rows import RowSource


class ReadReport:
    """Told by a reader what it cannot use. This one counts rows that are left out, and ends reading at an error.

    Verification gives its readers a report that records each and lets them continue.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()  # reason -> rows

    def leave_out(self, reason: str, source: RowSource | None, rows: int = 1) -> None:
        """Record rows that are left out of the row that `source` gave last; None = of no row in particular."""
        self.left_out[reason] += rows

    def refuse(self, error: KoviltError) -> None:
        """Record a row or a file that cannot be read. A reader continues behind it when this returns."""
        raise error


class FoundImage(NamedTuple):
    """The image that a row is about. Rows about one image may share one object, which saves looking it up again.

    Attributes:
        place: where it lies; None = it is absent.
        identity: source and id; the same wherever the data set lies. Images of equal identity are one image.
        name: identifies an absent image in messages.
        listed: False = absent even from the labels; training leaves its rows out and counts them.
    """

    place: Path | Member | None
    identity: str
    name: str
    listed: bool = True


@dataclass(frozen=True)
class RowSet:
    """All rows of a split, those of one image next to each other, and their images.

    Attributes:
        reader: it read them.
        table: the columns of the reader, and `image`, int32: the number of each row's image.
        images: by number.
        left_out: reason -> rows that are not in the table.
    """

    reader: Reader
    table: Table
    images: ImageStore
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.row_images)

    @property
    def row_images(self) -> np.ndarray:
        """int32 (rows,), ascending: the image number of each row."""
        return self.table['image'].to_numpy()

    @property
    def columns(self) -> Table:
        """The columns of the reader."""
        return {name: column for name, column in self.table.items() if name != 'image'}

    def texts(self) -> Iterator[str]:
        """The normalized text of every row, for example to train a tokenizer."""
        return (text.as_py() for text in self.table[self.reader.TEXT])

    def check_not_empty(self, rows: int, left_out: Counter[str]) -> None:
        """Raise KoviltError when no rows are left."""
        if not rows:
            place = f'{self.reader.data_root}: no rows of split {self.reader.split!r}'
            raise KoviltError(f'{place}{describe_left_out(left_out, ": ")}. {self.reader.HOW_TO_GET}')


def describe_left_out(left_out: Counter[str], prefix: str) -> str:
    """The rows that were left out, by reason; nothing when none were."""
    reasons = ', '.join(f'{reason} ({count:,} rows)' for reason, count in sorted(left_out.items()))
    return f'{prefix}left out: {reasons}' if reasons else ''


class RowCollector:
    """Collects rows and their images, which it numbers as they come.

    Args:
        columns: the Arrow type of each column of the table, which also has `image`.
    """

    def __init__(self, columns: Mapping[str, pa.DataType]) -> None:
        self._builder = TableBuilder({**columns, 'image': pa.int32()})
        self._images = ImageStore()
        self._numbers: dict[int, int] = {}  # image id -> image number
        self._latest: tuple[FoundImage | None, int] = None, -1  # an image and its number

    def append(self, values: dict[str, Any], image: FoundImage) -> None:
        """Add a row; `values` holds its columns but `image`."""
        if image is not self._latest[0]:  # usually it is: questions about one image are neighbors
            self._latest = image, self._number(image)
        values['image'] = self._latest[1]
        self._builder.append(values)

    def _number(self, image: FoundImage) -> int:
        place, identity, name, listed = image
        image_id = hash63(identity)
        number = self._numbers.setdefault(image_id, len(self._images))
        if number == len(self._images):
            self._images.append(place, name, image_id, listed=listed)
        return number

    def finish(self) -> tuple[Table, ImageStore]:
        """The table of all rows and their images; nothing can be appended afterwards."""
        self._numbers.clear()
        return self._builder.finish(), self._images.freeze()


def collect_rows(reader: Reader, report: ReadReport) -> RowSet:
    """Read all rows, normalize them, and bring those of each image together.

    Raises:
        KoviltError: what the reader cannot read, unless `report` records that; no rows.
    """
    weights = {'answer_weights': NUMBER_LIST} if 'answers' in reader.COLUMNS else {}
    collector = RowCollector({**reader.COLUMNS, **weights})
    for record, values in clean_records(reader, report):
        if values[reader.TEXT]:
            values.setdefault('answer_weights', ())
            collector.append(values, record['image'])
        else:
            report.leave_out(f'empty {reader.TEXT}', record.get('source'))
    table, images = collector.finish()
    if weights and not len(table['answer_weights'].values):
        del table['answer_weights']  # most data sets have none
    table, repeated = group_by_image(table)
    if repeated:
        report.leave_out('question_id seen before', None, repeated)
    rows = RowSet(reader, table, images, report.left_out)
    rows.check_not_empty(len(rows), rows.left_out)
    return rows


def clean_records(reader: Reader, report: ReadReport) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every record of a reader, its `image` a FoundImage, and its values by column: normalized texts, or lists of them.

    A value that is no text by the rule of `text_of` is refused, for all readers alike; a question or caption that is a
    number is, too.
    """
    name = getattr(reader, 'answer_map', None)  # of readers of questions
    answer_map = None if name is None else load_answer_map(name)
    for record in reader.records(report):
        try:
            place = record.get('source') or reader.data_root
            check_text(record.get(reader.TEXT), reader.TEXT, place)
            values = clean_row(reader.COLUMNS, record, place, answer_map)
            if not isinstance(record['image'], FoundImage):
                record = {**record, 'image': _find_image(reader, str(record['image']), place)}
        except KoviltError as error:
            report.refuse(error)
        else:
            yield record, values


def _find_image(reader: Reader, path: str, place: object) -> FoundImage:
    try:
        found = locate(reader.data_root, path, allow_outside=reader.allow_outside)
    except KoviltError as error:
        raise KoviltError(f'{place}: {error}') from None
    return FoundImage(found, identity=path, name=path)


def clean_row(
    columns: Mapping[str, pa.DataType],
    record: dict[str, Any],
    place: object,
    answer_map: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The normalized values, by column, of a record; with `answer_weights` where its answers have weights.

    `answer`, where the record has none, is the most frequent of several answers, or the one of greatest weight; of
    equal ones the first.

    Args:
        place: named by errors.
        answer_map: a table of `load_answer_map`, by which answers are replaced.
    """
    values: dict[str, Any] = {}
    for name, kind in columns.items():
        value = record.get(name)
        if kind is CATEGORY_LIST:
            texts = (normalize_korean(text_of(item, name, place)) for item in value or ())
            values[name] = [text for text in texts if text]
        elif kind is not NUMBER_LIST:  # which comes with the answers, below
            values[name] = normalize_korean(value if value.__class__ is str else text_of(value, name, place))
    if answer_map is not None:
        values['answer'] = answer_map.get(fold(values['answer']), values['answer'])
        if 'answers' in values:
            values['answers'] = [answer_map.get(fold(answer), answer) for answer in values['answers']]
    answers = values.get('answers')
    if answers and (weights := record.get('answer_weights')):
        merged: dict[str, float] = {}  # normalized answers may be equal
        for answer, weight in zip(answers, weights, strict=True):
            merged[answer] = min(merged.get(answer, 0.0) + weight, 1.0)
        values |= {'answers': list(merged), 'answer_weights': list(merged.values())}
        values['answer'] = values['answer'] or max(merged, key=merged.__getitem__)
    elif answers:
        values['answer'] = values['answer'] or Counter(answers).most_common(1)[0][0]
        values['answers'] = answers if len(answers) > 1 else []
    return values


def group_by_image(table: Table) -> tuple[Table, int]:
    """Bring the rows of each image together, in the order of reading, and drop the repeated ones. Empties `table`.

    A row is repeated when an earlier one has the same question_id, which is not empty, and the same image.

    Returns:
        the new table, and the number of dropped rows.
    """
    images = table['image'].to_numpy()
    ids = hash_texts(table['question_id']) if 'question_id' in table else np.zeros(len(images), dtype=np.uint64)
    if not (images[1:] < images[:-1]).any() and not _may_repeat(ids, images):
        return dict(table), 0
    order = np.lexsort((ids, images))  # stable: of equal rows the one read first stays first
    ids, sorted_images = ids[order], images[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ids[1:] == 0) | (ids[1:] != ids[:-1]) | (sorted_images[1:] != sorted_images[:-1])
    rows = np.sort(order[new])
    taken = pa.array(rows[np.argsort(images[rows], kind='stable')])
    # One column at a time: a second copy of all of AI-Hub 101 would take a gigabyte.
    return {name: table.pop(name).take(taken) for name in list(table)}, len(order) - len(rows)


def _may_repeat(ids: np.ndarray, images: np.ndarray) -> bool:
    """Whether two rows may have the same id, which is not 0, and image: True also for equal hashes of both.

    In a third of the time and memory of sorting by both.
    """
    keys = images.astype(np.uint64)
    keys *= np.uint64(0x9E3779B97F4A7C15)  # spreads the numbers over 64 bits: 2^64 over the golden ratio
    keys ^= ids
    keys = keys[ids != 0]
    keys.sort()
    return bool((keys[1:] == keys[:-1]).any())
