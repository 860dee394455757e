"""The base of all readers: classes that know the files of a data set and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from kovilt.datasets.answer_maps import load_answer_map
from kovilt.datasets.folders import Folder, check_data_root, find_file, list_folders, where_instead
from kovilt.datasets.row_cache import read_rows_cached
from kovilt.datasets.rows import ReadReport, RowSet, collect_rows
from kovilt.datasets.table import CATEGORY, CATEGORY_LIST, STRING
from kovilt.errors import KoviltError

Item = TypeVar('Item')


class Reader(ABC):
    """Rows of (text, image), as they stand in the files of a data set.

    A subclass names its columns and writes `records`. Its attributes are its arguments and nothing else.

    Args:
        data_root: folder with the files as the user has them.
        split: 'train' or 'val'; a reader may have others.
        allow_outside: follow links and read images that lead out of `data_root`. For data whose paths you trust.
        cache: store the rows in Arrow files, from which the next opening maps them (see `row_cache`). True = in
            `data_root`/.kovilt_cache; a path = in this folder, which several data sets may share.

    Raises:
        KoviltError: there is no such folder, or it is empty.
    """

    COLUMNS: Mapping[str, pa.DataType]  # name -> STRING, or CATEGORY or CATEGORY_LIST if strings repeat
    TEXT: str  # the column that the text pipeline reads
    HOW_TO_GET: ClassVar[str] = ''  # part of the message when there is no data
    MAPS_COLUMNS: ClassVar[bool] = False  # it has an argument `columns`, the names of the columns by kovilt's

    def __init__(self, *, data_root: str, split: str, allow_outside: bool = False, cache: bool | str = False) -> None:
        self.data_root = check_data_root(data_root, self.HOW_TO_GET)
        self.split, self.allow_outside, self.cache = split, allow_outside, cache

    @abstractmethod
    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        """Give every row of the split as a dict with the names of COLUMNS, `image` and, if possible, `source`.

        `image` is a `FoundImage`, or a path beneath `data_root` (see `allow_outside`). `source` is the `RowSource` of
        the row. Values are as in the file: whoever takes the rows normalizes them, and leaves out rows without text.

        A row or file that cannot be read goes to `report.refuse`, and reading continues when that returns; rows that
        are left out go to `report.leave_out`.
        """

    def read_rows(self) -> RowSet:
        """Read all rows of the split.

        Raises:
            KoviltError: missing or malformed files, no rows.
        """
        return read_rows_cached(self) if self.cache else collect_rows(self, ReadReport())

    def list_folders(self) -> list[Folder]:
        """As `folders.list_folders` of `data_root`."""
        return list(list_folders(self.data_root, allow_outside=self.allow_outside))

    def find_file(self, name: str, folders: list[Folder]) -> Path:
        """As `folders.find_file` beneath `data_root`. Raises KoviltError when there is no such file."""
        path = find_file(self.data_root, name, folders)
        if path is None:
            raise KoviltError(
                f'{self.data_root / name}: no such file{where_instead([name], folders)}. {self.HOW_TO_GET}'
            )
        return path


class CaptionReader(Reader):
    """A reader of captions."""

    COLUMNS = {'text': STRING}
    TEXT = 'text'


class QuestionReader(Reader):
    """A reader of questions.

    A data set in which several people answer each question sets `COLUMNS = QuestionReader.SEVERAL_ANSWERS` and gives
    `answers`, a list; where the reader gives no `answer`, it is the most frequent of them. Of several rows with the
    same question_id and image only the first is used. One of multiple-choice questions sets `COLUMNS =
    QuestionReader.WITH_OPTIONS` and gives `options`, a list of texts, of which `answer` is one (see `read_choice`).

    Args:
        answer_map: replaces answers by others: the name of a packaged table ('kvqa', '71357') or the path of a JSON
            file {"Yes": "예", ...}, see `answer_maps`. Training and evaluation need the same.
        others: as in Reader.

    Raises:
        KoviltError: as Reader and `load_answer_map`.
    """

    COLUMNS = {
        'question': STRING,
        'question_id': STRING,
        'answer': CATEGORY,
        'answer_type': CATEGORY,
    }
    SEVERAL_ANSWERS = {**COLUMNS, 'answers': CATEGORY_LIST}
    WITH_OPTIONS = {**COLUMNS, 'options': CATEGORY_LIST}
    TEXT = 'question'

    def __init__(
        self,
        *,
        data_root: str,
        split: str,
        allow_outside: bool = False,
        cache: bool | str = False,
        answer_map: str | None = None,
    ) -> None:
        super().__init__(data_root=data_root, split=split, allow_outside=allow_outside, cache=cache)
        self.answer_map = answer_map
        if answer_map is not None:
            load_answer_map(answer_map)  # a wrong name is told before the files are read


def refusing(items: Iterable[Item], report: ReadReport) -> Iterator[Item]:
    """Give the items; their errors go to `report.refuse`, and the iteration continues if it can."""
    items = iter(items)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except KoviltError as error:
            report.refuse(error)
        else:
            yield item
