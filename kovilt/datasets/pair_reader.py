"""What every reader of a data set has in common: from the rows of its files to a table and numbered images."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from mmengine.logging import print_log

from kovilt.datasets.image_store import Folder, ImageStore, ZipMember, find_file
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.rng import hash63
from kovilt.datasets.table import CATEGORY_LIST, Table, TableBuilder
from kovilt.errors import KoviltError


class PairReader:
    """Rows of (text, image) in an Arrow table, as they stand in the files of a data set.

    A subclass names its columns and writes `load_data_list`. It is a PairDataset or QuestionDataset, which select the
    rows to use and turn them into samples.

    Args:
        data_root: folder with the files as the user has them.
        split: 'train' or 'val'; a reader may have others.

    Raises:
        KoviltError: there is no such folder.
    """

    COLUMNS: ClassVar[dict[str, pa.DataType]]  # name -> STRING, or CATEGORY or CATEGORY_LIST if strings repeat
    TEXT: ClassVar[str]  # the column that the text pipeline reads
    HOW_TO_GET: ClassVar[str] = ''  # part of the message when there is no data

    # Entered around each row and file that is read. Verification sets one that records errors and suppresses them.
    guard: AbstractContextManager = nullcontext()

    def __init__(self, *, data_root: str, split: str) -> None:
        self.data_root = Path(os.path.abspath(os.path.expanduser(data_root)))
        self.split = split
        if not self.data_root.is_dir():
            raise KoviltError(f'data_root {data_root}: no such folder. {self.HOW_TO_GET}')
        self.left_out: Counter[str] = Counter()  # reason -> rows
        self.image_store = ImageStore()
        self._columns: Table = {}  # of the types that COLUMNS names
        self._stored_images = np.empty(0, dtype=np.int32)  # (stored rows,): the image number of each row
        self._numbers: dict[int, int] = {}  # image id -> image number

    # What a subclass writes, and calls while it does.

    @abstractmethod
    def load_data_list(self) -> Iterator[dict[str, Any]]:
        """Give every row of the split as a dict with the names of COLUMNS and `image`.

        `image` is a path (relative to `data_root` or absolute), or the number that `add_image` returned. `source`,
        if given, is the `RowSource` of the row. The caller normalizes the values and leaves out rows
        without text. Rows that the reader itself leaves out are counted by `leave_out`, or in `self.left_out`.

        Rows and files are read within `guarded` and `guard`, so that verification, whose guard suppresses errors,
        finds everything that cannot be read.
        """

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        """Give the items, each read within `guard`: after a suppressed error the iterator continues if it can."""
        items = iter(items)
        while True:
            with self.guard:
                try:
                    item = next(items)
                except StopIteration:
                    return
                yield item

    def find_file(self, name: str, folders: list[Folder]) -> Path:
        """As `image_store.find_file` beneath `data_root`. Raises KoviltError when there is no such file."""
        path = find_file(self.data_root, name, folders)
        if path is None:
            raise KoviltError(f'{self.data_root / name}: no such file. {self.HOW_TO_GET}')
        return path

    def leave_out(self, reason: str, source: RowSource, rows: int = 1) -> None:
        """Count rows that the reader itself leaves out of the row that `source` gave last."""
        self.left_out[reason] += rows

    def add_image(self, place: Path | ZipMember | None, *, identity: str, name: str) -> int:
        """Register an image and return its number; the same identity gives the same number.

        Args:
            place: where it lies; None = known to be absent.
            identity: source and id; the same wherever the data set lies.
            name: identifies an absent image in messages.
        """
        image_id = hash63(identity)
        number = self._numbers.setdefault(image_id, len(self.image_store))
        if number == len(self.image_store):
            self.image_store.append(place, name, image_id)
        return number

    # From files to a table.

    def read_rows(self) -> None:
        """Read all rows of the split into a table."""
        builder = TableBuilder({**self.COLUMNS, 'image': pa.int32()})
        for row in self.load_data_list():
            values = self.clean_row(row)
            if not values[self.TEXT]:
                self.left_out[f'empty {self.TEXT}'] += 1
                continue
            values['image'] = self.number_image(row)
            builder.append(values)
        self._numbers.clear()
        self._check_not_empty(len(builder))
        self._set_table(builder.finish(), self.image_store.freeze())

    def _set_table(self, table: Table, images: ImageStore) -> None:
        """Take the rows of a table, whose column `image` holds the number of each row's image."""
        self._stored_images = table['image'].to_numpy()
        self._columns = {name: column for name, column in table.items() if name != 'image'}
        self.image_store = images

    def number_image(self, row: dict[str, Any]) -> int:
        """The number of the image of a row from `load_data_list`; an image given by its path is registered."""
        image = row['image']
        if isinstance(image, int):
            return image
        return self.add_image(self.data_root / image, identity=str(image), name=str(image))

    def clean_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The normalized values, by column, of a row from `load_data_list`."""
        return {
            name: (_clean_list if kind is CATEGORY_LIST else _clean_text)(row.get(name))
            for name, kind in self.COLUMNS.items()
        }

    @property
    def image_ids(self) -> np.ndarray:
        """int64 (images,): the id of each image, by number: a hash of its source and id in the data set."""
        return self.image_store.image_ids

    def _check_not_empty(self, rows: int) -> None:
        if not rows:
            reasons = self._describe_left_out(': ')
            raise KoviltError(f'{self.data_root}: no rows of split {self.split!r}{reasons}. {self.HOW_TO_GET}')

    def _describe_left_out(self, prefix: str) -> str:
        reasons = ', '.join(f'{reason} ({count:,} rows)' for reason, count in sorted(self.left_out.items()))
        return f'{prefix}left out: {reasons}' if reasons else ''

    def _log(self, message: str, level: int = logging.INFO) -> None:
        print_log(f'{type(self).__name__} {self.split}: {message}', logger='current', level=level)


def _clean_text(value: Any) -> str:
    """Convert a value of a label file, which may be a string, a number or null, to a normalized string."""
    return '' if value is None else normalize_korean(str(value))


def _clean_list(values: Iterable[Any] | None) -> list[str]:
    """Convert a list of such values, or None, to normalized strings; blank ones are dropped."""
    return [text for text in map(_clean_text, values or ()) if text]
