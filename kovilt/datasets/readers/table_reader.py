"""The base of the readers of tables with a question in each row, whatever the format of their files."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from kovilt.datasets.answers import read_answers
from kovilt.datasets.folders import Folder, locate, normalize_path
from kovilt.datasets.image_store import ImageIndex, folder_images
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.members import Member
from kovilt.datasets.options import has_options, is_option_column, read_choice
from kovilt.datasets.readers.base import QuestionReader, refusing
from kovilt.datasets.readers.column_names import COLUMNS
from kovilt.datasets.readers.json_rows import required_text
from kovilt.datasets.readers.tables import TableFile
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.table_files import is_base64_image
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError, nearest
from kovilt.ranges import Range, check_arguments

SPLITS = ('train', 'val', 'test')
_SPLIT_WORDS = {  # in the names of files and folders
    'train': {'train', 'training', 'trainset'},
    'val': {'val', 'valid', 'validation', 'dev'},
    'test': {'test', 'testing', 'eval', 'evaluation'},
}
_SHARD = re.compile(r'(?P<set>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]{16})?')


class TableReader(QuestionReader):
    """Reader of tables: a row has `image`, `question` and `answer`, or `answers` where several people answered.

    It may have `question_id` (default: the number of its row) and `answer_type`. Where it has options, in a form of
    `read_choice`, the answer of the row is the text of the right one. A subclass finds the files of a split and
    opens them as tables.

    `image` is a path beneath `data_root` (see `allow_outside`), or lies in the table. An image in a zip or tar has the
    path that it would have if that were extracted in place, with or without a folder of its name.

    Args:
        val_share: if there is no table of `val`, this share (0 to 1) of the images of `train`, at least one, is split
            'val', with all questions about them, and the rest is 'train'. 0 = the tables are the splits.
        val_seed: chooses these images. An image's place in the order that is drawn depends on its path alone, or on its
            content where it lies in the table.
        columns: the names of columns where they are not kovilt's, by kovilt's name: {'question': '질문'}.
        files: the files of the split beneath `data_root`, as a pattern (`data/part*.parquet`); None = those whose name
            or folder names the split, and all where none names any.
        others: as in Reader.

    Raises:
        KoviltError: as Reader; `columns` has a name that is none of kovilt's.
    """

    COLUMNS = QuestionReader.SEVERAL_ANSWERS
    MAPS_COLUMNS = True
    SUFFIXES: ClassVar[tuple[str, ...]]  # of the files

    @check_arguments
    def __init__(
        self,
        *,
        data_root: str,
        split: str,
        allow_outside: bool = False,
        cache: bool | str = False,
        val_share: Annotated[float, Range(ge=0, lt=1)] = 0.0,
        val_seed: int = 0,
        columns: Mapping[str, str] | None = None,
        files: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__(data_root=data_root, split=split, allow_outside=allow_outside, cache=cache, **others)
        self.val_share, self.val_seed, self.files = val_share, val_seed, files
        self.columns = check_columns(columns or {})

    @abstractmethod
    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        """Open a file. `needs_answer`: refuse one without answers."""

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        """The files of a split, where no pattern names them."""
        return split_files(folders, self.SUFFIXES).get(split, [])

    def tables(self, split: str, folders: list[Folder], *, needs_answer: bool = True) -> list[TableFile]:
        """The tables of a split; empty if there are none."""
        paths = self.find_files(split, folders) if self.files is None else self._matching_files(self.files, folders)
        return [self.open_table(path, needs_answer=needs_answer) for path in paths]

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        tables, images = self._open_tables(folders), _ImagePaths(self, folders)
        is_val = self._choose_val_images(folders) if self.val_share and self.split in ('train', 'val') else None
        rows_before = 0
        for table in tables:
            for row in refusing(table, report):
                try:
                    if is_val is not None and is_val(row) != (self.split == 'val'):
                        continue
                    record = self._question_record(row, table, images, rows_before)
                except KoviltError as error:
                    report.refuse(error)
                else:
                    yield record
            rows_before += table.number + 1

    def _choose_val_images(self, folders: list[Folder]) -> Callable[[Any], bool]:
        """A function that tells of each row of `train` whether its image is one of the validation split."""

        def rank(image: str) -> str:
            return hashlib.sha256(f'{self.val_seed}\0{image}'.encode(errors='backslashreplace')).hexdigest()

        def image_of(row: Any) -> str:
            value = row.get('image') if isinstance(row, dict) else None
            return value.identity if isinstance(value, FoundImage) else normalize_korean(str(value))

        images = {image_of(row) for table in self._open_tables(folders) for row in refusing(table, _Ignored())}
        ranked = sorted(images, key=rank)
        if len(ranked) < 2:
            raise KoviltError(
                f'{self.data_root}: {len(ranked)} images in train, none can be kept for validation; add images, or a '
                'table val.jsonl'
            )
        chosen = frozenset(ranked[: max(1, round(self.val_share * len(ranked)))])
        return lambda row: image_of(row) in chosen

    def _question_record(self, row: Any, table: TableFile, images: _ImagePaths, rows_before: int) -> dict[str, Any]:
        if not isinstance(row, dict):
            raise KoviltError(f'{table.place}: expecting an object, found {str(row)[:40]!r}')
        image = row.get('image')
        if image is None:
            raise KoviltError(f"{table.place}: no 'image' in this row{nearest('image', row)}; every row needs it")
        question = required_text(row, 'question', table)
        if image == '':
            raise KoviltError(f"{table.place}: 'image' is empty; every row needs it")
        if 'answer' not in row and 'answers' not in row:
            raise KoviltError(f"{table.place}: neither 'answer' nor 'answers' in this row{nearest('answer', row)}")
        answer = row.get('answer')
        if isinstance(answer, (list, dict)):
            raise KoviltError(f"{table.place}: 'answer' is {str(answer)[:40]}; several are called 'answers'")
        if has_options(row):
            question, _, answer = read_choice(row, table)
        question_id = row.get('question_id')
        return {
            'image': image if isinstance(image, FoundImage) else images.find(image, table),
            'question': question,
            'question_id': rows_before + table.number if question_id in (None, '') else question_id,
            'answer': answer,
            **read_answers(row, table),
            'answer_type': row.get('answer_type'),
            'source': table,
        }

    def _open_tables(self, folders: list[Folder]) -> list[TableFile]:
        split = self.split
        if self.val_share and split in ('train', 'val'):
            if self.files is None and (found := self.tables('val', folders)):
                name = os.path.relpath(found[0].path, self.data_root)
                raise KoviltError(f'{self.data_root}: {name} is the validation split; leave out val_share')
            split = 'train'
        if tables := self.tables(split, folders):
            return tables
        raise KoviltError(f'{self.data_root}: {self._missing(split, folders)}. {self.HOW_TO_GET}')

    def _missing(self, split: str, folders: list[Folder]) -> str:
        """What is missing, for a message."""
        kinds = ' or '.join(f'*{suffix}' for suffix in self.SUFFIXES)
        if self.files is not None:
            return f'no file {self.files!r} ({kinds})'
        there = sorted(split_files(folders, self.SUFFIXES), key=str)
        return f'no {kinds} of split {split!r}' + (f'; there is {", ".join(map(repr, there))}' if there else '')

    def _matching_files(self, files: str, folders: list[Folder]) -> list[Path]:
        """The files with the suffixes of this reader whose path beneath the root is as the pattern says."""
        found = (Path(folder.path, name) for folder in folders for name in folder.files)
        pattern = posixpath.normpath(normalize_korean(files))
        return [
            path
            for path in found
            if path.name.lower().endswith(self.SUFFIXES)
            and fnmatch.fnmatchcase(normalize_korean(path.relative_to(self.data_root).as_posix()), pattern)
        ]


def check_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The normalized names of columns by kovilt's. Raises KoviltError for a name that is none of kovilt's."""
    for ours in columns:
        if ours not in COLUMNS and not is_option_column(ours):
            known = ', '.join(map(repr, COLUMNS))
            raise KoviltError(f'columns: {ours!r} is no column of kovilt{nearest(ours, COLUMNS)}; give one of {known}')
    return {ours: normalize_korean(theirs) for ours, theirs in columns.items()}


def split_files(
    folders: Iterable[Folder], suffixes: Collection[str], accept: Callable[[Path], bool] = lambda path: True
) -> dict[str, list[Path]]:
    """Split -> the files with these suffixes, by a word in their name or else in that of a folder, the nearest first.

    Where no file names a split, all are 'train'. Files in hidden folders, and those that `accept` refuses, are passed
    over.

    Raises:
        KoviltError: one of numbered shards (`-00001-of-00004`) is missing.
    """
    found: dict[str, list[Path]] = {}
    unnamed: list[Path] = []
    for folder in folders:
        if any(part.startswith('.') for part in folder.parts):
            continue
        for name in folder.files:
            if name.lower().endswith(tuple(suffixes)) and accept(Path(folder.path, name)):
                split = next(filter(None, map(split_name, (os.path.splitext(name)[0], *folder.parts[::-1]))), None)
                (unnamed if split is None else found.setdefault(split, [])).append(Path(folder.path, name))
    if not found and unnamed:
        found['train'] = unnamed
    for paths in found.values():
        paths.sort()
        _check_shards(paths)
    return found


def split_name(name: str) -> str | None:
    """The split that a word of a file's or folder's name says; None if none does."""
    words = set(re.findall('[a-z]+', name.lower()))
    return next((split for split, own in _SPLIT_WORDS.items() if words & own), None)


def _check_shards(paths: list[Path]) -> None:
    shards: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if found := _SHARD.fullmatch(path.stem):
            shards.setdefault((str(path.parent / found['set']), int(found['count'])), set()).add(int(found['number']))
    for (name, count), numbers in shards.items():
        missing = next((number for number in range(count) if number not in numbers), None)
        if missing is not None:
            raise KoviltError(
                f'{name}-{missing:05d}-of-{count:05d}: the shard is missing ({len(numbers)} of {count} are there); '
                'download it'
            )


class _ImagePaths:
    """Finds the images that rows name by their paths."""

    def __init__(self, reader: TableReader, folders: list[Folder]) -> None:
        self._reader, self._folders = reader, folders
        self._images: ImageIndex | None = None  # made when a row has a path

    def find(self, image: Any, table: TableFile) -> FoundImage:
        """The image at a path. Raises KoviltError, with the place of the row, for what is no path beneath the root."""
        root, allow_outside = self._reader.data_root, self._reader.allow_outside
        if self._images is None:
            self._images = _index_by_path(self._folders)
        text = text_of(image, 'image', table)
        if is_base64_image(text):
            raise KoviltError(
                f"{table.place}: 'image' is base64, which JSONL, TSV and Parquet may hold; convert the table, or write "
                'the images to files'
            )
        try:
            path = normalize_path(text, root, allow_outside=allow_outside)
            place = self._images[self._images.at('', *map(normalize_korean, posixpath.split(path)))]
            if place is None and (root / path).is_file():
                place = locate(root, path, allow_outside=allow_outside)
        except KoviltError as error:
            raise KoviltError(f'{table.place}: {error}') from None
        return FoundImage(place, normalize_korean(path), path)


class _Ignored(ReadReport):
    """Of a reading whose errors a second one reports."""

    def refuse(self, error: KoviltError) -> None:
        pass


def _index_by_path(folders: list[Folder]) -> ImageIndex:
    """Index all images beneath a root in group ''; the category is the path of their folder."""
    images = ImageIndex()
    for folder in folders:
        for parts, place in folder_images(folder):
            images.add('', '/'.join(parts), place)
            if isinstance(place, Member):
                depth = len(folder.parts)
                images.add('', '/'.join((*parts[:depth], *parts[depth + 1 :])), place)
    return images
