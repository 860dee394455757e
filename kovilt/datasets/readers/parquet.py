"""Reads tables of HuggingFace's `datasets`: Parquet files, and folders of `save_to_disk`; images lie in the cells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from kovilt.datasets.folders import Folder, normalize_path
from kovilt.datasets.options import is_option_column
from kovilt.datasets.readers.base import CaptionReader, refusing
from kovilt.datasets.readers.column_names import COLUMNS, check_names, map_names, missing_columns
from kovilt.datasets.readers.table_reader import SPLITS, TableReader, split_files, split_name
from kovilt.datasets.readers.tables import TableFile
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.table_files import TABLE_CELL, TableCell, cell_name, read_batches, read_cell, read_schema
from kovilt.errors import KoviltError
from kovilt.files import read_json
from kovilt.registry import READERS

STATE_FILE = 'state.json'  # of each saved data set
CAPTION_COLUMNS = ('image', 'text')
ALIASES = {  # kovilt's name -> what the data sets of the hub call it, where that is not the same
    'text': ('caption_ko', 'captions_ko', 'caption', 'captions'),
    'image': ('images', 'image_path'),
    'answer': ('multiple_choice_answer',),
    'question_id': ('questionId', 'index', 'id'),
    'answer_type': ('category', 'question_type'),
}


def map_aliases(names: Collection[str], columns: Mapping[str, str]) -> dict[str, str]:
    """kovilt's name -> the name in the file, of those that differ: what the user gives, else a usual name."""
    found = dict(columns)
    for ours, usual in ALIASES.items():
        known = ours in names or ours == 'answer' and 'answers' in names
        if ours not in columns and not known and (theirs := next((name for name in usual if name in names), None)):
            found[ours] = theirs
    return found


class CellTable(TableFile):
    """The rows of a Parquet or Arrow file. `image` of a row is a FoundImage, or a path if its cell has no bytes.

    Images of equal content are one image, whatever their names.

    Raises:
        KoviltError: a damaged file, missing columns, a cell that holds several images or none.
    """

    def __init__(self, path: Path, *, needs_answer: bool = True, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._rows = self._read()
        self._latest: FoundImage | None = None  # rows about one image are usually neighbors

    @property
    def number(self) -> int:
        return max(0, self._line - 1)

    def __next__(self) -> Any:
        values, image_column = next(self._rows)
        self._line += 1
        try:
            content, path = read_cell(values['image'])
        except ValueError as error:
            raise KoviltError(f'{self.place}: {image_column!r} holds {error}') from None
        if content is None:
            return values | {'image': path}
        identity = f'cell/{xxhash.xxh3_128_hexdigest(content)}'
        if self._latest is None or self._latest.identity != identity:
            name = cell_name(image_column, self._line - 1, path)
            cell = TableCell(str(self.path), name, self._line - 1, len(content), len(content), TABLE_CELL, 0)
            self._latest = FoundImage(cell, identity, name)
        return values | {'image': self._latest}

    def used_columns(self, names: Sequence[str], given: Sequence[str]) -> list[str]:
        """The columns that are read.

        Args:
            names: of all columns, by kovilt's names.
            given: as the file has them.

        Raises:
            KoviltError: one that every row needs is missing.
        """
        check_names(names, str(self.path), 'column', needs_answer=self._needs_answer, given=given)
        return [name for name in names if name in COLUMNS or is_option_column(name)]

    def _read(self) -> Iterator[tuple[dict[str, Any], str]]:
        """The values of each row, by kovilt's names, and the name of the column of images."""
        path = str(self.path)
        names = read_schema(path).names
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise KoviltError(f'{path}: two columns are called {repeated!r}; keep or rename one')
        columns = map_aliases(names, self._given)
        ours = map_names(names, columns, path, 'column')
        both = dict(zip(names, ours, strict=True))
        used = self.used_columns(ours, names)
        wanted = {theirs: name for theirs, name in both.items() if name in used}
        for rows in read_batches(path, list(wanted)):
            for row in rows:
                yield {name: _plain(row[theirs]) for theirs, name in wanted.items()}, columns.get('image', 'image')


class CaptionTable(CellTable):
    """As CellTable; its rows have `image` and `text`, and no questions."""

    def used_columns(self, names: Sequence[str], given: Sequence[str]) -> list[str]:
        if missing := [name for name in CAPTION_COLUMNS if name not in names]:
            raise missing_columns(missing, given, str(self.path), 'column', "'image' and 'text'")
        return list(CAPTION_COLUMNS)


def _plain(value: Any) -> Any:
    """A value as JSON would have it: NaN, by which pandas fills gaps, as None, a date or decimal as its text."""
    if isinstance(value, float) and value != value:
        return None
    return value if value is None or isinstance(value, str | int | float | list | dict | bytes) else str(value)


@READERS.register_module()
class ParquetReader(TableReader):
    """Reader of Parquet files with a question in each row (see `TableReader`), as HuggingFace's hub has them.

    The split of a file is a word of its name, or else of its folder: `data/train-00000-of-00002.parquet`,
    `test/0000.parquet`. An image is a struct of `bytes` and `path`, bytes, base64 text, or a path beneath `data_root`;
    its bytes are read when it is asked for, and once on opening, to find equal images. Known by other names are
    `multiple_choice_answer`, `images` (of one image), `image_path`, `index`, `category`; `columns` names others.

    Layout and types: those of the library `datasets`.
    """

    SUFFIXES = ('.parquet',)
    HOW_TO_GET = (
        'Put the Parquet files of the data set beneath data_root, for example those that '
        '`hf download OWNER/NAME --repo-type dataset --local-dir FOLDER` fetches'
    )

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        return CellTable(path, needs_answer=needs_answer, columns=self.columns)


@READERS.register_module()
class HFDatasetReader(TableReader):
    """Reader of a folder that `save_to_disk` of a `Dataset` or `DatasetDict` wrote; else as `ParquetReader`.

    The folder of a split is called train, validation (or val) or test; a data set without splits is 'train'. The
    images are mapped from the files, not copied.

    Layout: that of the library `datasets`.
    """

    SUFFIXES = ('.arrow',)
    HOW_TO_GET = 'Write it there: datasets.load_dataset("OWNER/NAME").save_to_disk("FOLDER")'

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        return _saved_files(split, folders)

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        return CellTable(path, needs_answer=needs_answer, columns=self.columns)

    def _missing(self, split: str, folders: list[Folder]) -> str:
        there = ', '.join(map(repr, saved_splits(folders)))
        if self.files is not None or not there:
            return super()._missing(split, folders)
        return f'no saved data set of split {split!r}; there is {there}'


@READERS.register_module()
class ParquetCaptionReader(CaptionReader):
    """Reader of captions in Parquet files, or in a folder that `save_to_disk` wrote: one row a caption.

    As `ParquetReader`, with the column `text` (or caption_ko, captions_ko, caption, captions): a caption, or a list.

    Args:
        columns: the names of columns where they are not kovilt's, by kovilt's name: {'text': '설명'}.
        others: as in Reader.
    """

    HOW_TO_GET = ParquetReader.HOW_TO_GET
    MAPS_COLUMNS = True

    def __init__(self, *, columns: Mapping[str, str] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.columns = dict(columns or {})
        if unknown := next((name for name in self.columns if name not in CAPTION_COLUMNS), None):
            raise KoviltError(f"columns: {unknown!r} is no column of captions; give 'image' or 'text'")

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        paths = cell_files(self.split, folders)
        if not paths:
            raise KoviltError(f'{self.data_root}: no captions of split {self.split!r}. {self.HOW_TO_GET}')
        for path in paths:
            table = CaptionTable(path, columns=self.columns)
            for row in refusing(table, report):
                texts, image = row['text'], row['image']
                if image is None:
                    report.refuse(KoviltError(f"{table.place}: no 'image' in this row; every row needs it"))
                    continue
                for text in texts if isinstance(texts, list) else [texts]:
                    yield {'text': text, 'image': image, 'source': table}


def cell_files(split: str, folders: list[Folder], accept: Callable[[Path], bool] = lambda path: True) -> list[Path]:
    """The Parquet files of a split, and the files of its saved data sets, that `accept` takes."""
    saved = filter(accept, _saved_files(split, folders))
    return [*split_files(folders, ParquetReader.SUFFIXES, accept).get(split, []), *saved]


def _saved_files(split: str, folders: list[Folder]) -> list[Path]:
    """The files of the saved data sets of a split."""
    return [path for folder in saved_splits(folders).get(split, []) for path in _data_files(folder)]


def saved_splits(folders: list[Folder]) -> dict[str, list[Path]]:
    """Split -> the folders of the saved data sets that are it; one whose name says nothing is 'train'."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if STATE_FILE in folder.files and 'dataset_info.json' in folder.files:
            names = folder.parts[::-1]
            found.setdefault(next(filter(None, map(split_name, names)), SPLITS[0]), []).append(Path(folder.path))
    return found


def _data_files(folder: Path) -> list[Path]:
    """The files of a saved data set, in their order."""
    state = folder / STATE_FILE
    files = read_json(state).get('_data_files')
    names = [file.get('filename') if isinstance(file, dict) else None for file in files] if files else []
    if not names or not all(isinstance(name, str) for name in names):
        raise KoviltError(f"{state}: '_data_files' lists no files; save the data set again")
    try:
        return [folder / normalize_path(str(name), folder) for name in names]
    except KoviltError as error:
        raise KoviltError(f'{state}: {error}') from None
