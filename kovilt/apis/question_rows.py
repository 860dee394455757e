"""Questions to be answered in bulk: the rows of a table, or every image of a folder with the same questions."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kovilt.apis.questions import clean_question
from kovilt.datasets.folders import list_folders, locate
from kovilt.datasets.image_store import folder_images
from kovilt.datasets.members import Member
from kovilt.datasets.options import has_options, read_choice
from kovilt.datasets.readers.json_rows import required
from kovilt.datasets.readers.parquet import CellTable
from kovilt.datasets.readers.table_reader import TableReader, check_columns
from kovilt.datasets.readers.tables import CSVTable, JSONLines, TableFile
from kovilt.datasets.readers.tsv import TSVTable
from kovilt.datasets.recognition import recognize
from kovilt.datasets.rows import FoundImage
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError

_TABLES: dict[str, type[TableFile]] = {'.jsonl': JSONLines, '.csv': CSVTable, '.tsv': TSVTable, '.parquet': CellTable}


class QuestionRow(NamedTuple):
    """One question about one image."""

    image: str  # as the table names it, or the path in the folder
    place: Path | Member
    question: str
    question_id: str | None = None
    choices: tuple[str, ...] = ()  # the row's own options


def read_question_rows(
    source: Path,
    *,
    questions: Sequence[str] = (),
    image_root: Path | None = None,
    allow_outside: bool = False,
    columns: Mapping[str, str] | None = None,
) -> list[QuestionRow]:
    """The rows of a table, or the images of a folder and its zips, in the order of their names, with each question.

    Args:
        source: a JSONL, CSV, TSV or Parquet file with `image` and `question` in each row, and maybe `question_id` and
            options, in a form of `read_choice`; other columns, such as answers, are ignored. Or a folder of images, or
            one with the tables of one split.
        questions: for a folder of images, and for that only.
        image_root: folder beneath which the images of a table lie; None = the folder of the table.
        allow_outside: accept images outside this folder.
        columns: the names of the table's columns where they are not kovilt's, by kovilt's name.

    Raises:
        KoviltError: no such file or folder, a malformed row, a path that leads outside, no rows. A missing image or an
            unusable question is no error here: others can still be answered.
    """
    given = check_columns(columns or {})
    if source.is_dir() and questions:
        cleaned = [clean_question(text, f'question {number}') for number, text in enumerate(questions)]
        rows = [
            QuestionRow(str(Path(str(place)).relative_to(source)), place, text)
            for folder in list_folders(source, allow_outside=allow_outside)
            for _, place in folder_images(folder)
            for text in cleaned
        ]
        if not rows:
            raise KoviltError(f'{source}: no images in it; give a folder with JPEG, PNG, WebP, BMP, GIF or TIFF files')
        return rows
    if questions:
        raise KoviltError(f'{source}: a table has its own questions; leave out --question')
    if source.is_dir():
        tables, root = _folder_tables(source, allow_outside, given), source
    elif (kind := _TABLES.get(source.suffix.lower())) is not None:
        tables, root = [kind(source, needs_answer=False, columns=given)], source.parent
    else:
        kinds = ', '.join(_TABLES)
        raise KoviltError(f'{source}: neither a folder nor a table; give a file that ends with one of {kinds}')
    rows = [row for table in tables for row in _table_rows(table, image_root or root, allow_outside)]
    if not rows:
        raise KoviltError(f'{source}: no rows in it; a row is {{"image": "a.jpg", "question": "..."}}')
    return rows


def _folder_tables(folder: Path, allow_outside: bool, columns: Mapping[str, str]) -> list[TableFile]:
    """The tables of the only split in a folder.

    Raises:
        KoviltError: a folder without tables, so that its images need a question; tables of several splits.
    """
    folders = list(list_folders(folder, allow_outside=allow_outside))
    found = recognize(folders)
    if not found:
        raise KoviltError(f'{folder}: a folder of images needs a question for them: --question "..."')
    kind, split = next((kind, split) for kind, splits in found.items() for split in splits)
    if sum(map(len, found.values())) != 1 or not issubclass(kind, TableReader):
        names = ', '.join(f'{split!r} of {kind.__name__}' for kind, splits in found.items() for split in sorted(splits))
        raise KoviltError(f'{folder}: holds {names}; give the file or folder of one table of questions')
    reader = kind(data_root=str(folder), split=split, allow_outside=allow_outside, columns=columns)
    return reader.tables(split, folders, needs_answer=False)


def _table_rows(table: TableFile, root: Path, allow_outside: bool) -> Iterator[QuestionRow]:
    names: dict[str, str] = {}  # one string for all rows of an image
    places: dict[str, Path | Member] = {}
    for row in table:
        if isinstance(row, dict) and isinstance(found := row.get('image'), FoundImage):
            image = f'{os.path.basename(table.path)}/{found.name}'
            places.setdefault(image, found.place or Path(found.name))
        else:
            image = required(row, 'image', table)
        image = names.setdefault(image, image)
        if image not in places:
            try:
                places[image] = _find(root, image, allow_outside)
            except KoviltError as error:
                raise KoviltError(f'{table.place}: {error}') from None
        question_id: Any = row.get('question_id')
        question = required(row, 'question', table)
        choices: tuple[str, ...] = ()
        if has_options(row):
            question, options, _ = read_choice({**row, 'question': question, 'answer': None}, table)
            choices = tuple(options)
        yield QuestionRow(
            image,
            places[image],
            question,
            None if question_id is None else text_of(question_id, 'question_id', table.place),
            choices,
        )


def _find(root: Path, image: str, allow_outside: bool) -> Path:
    """Where an image lies; Korean names are found in decomposed form as well, as macOS writes them."""
    place = locate(root, image, allow_outside=allow_outside)
    if image.isascii() or place.is_file():
        return place
    decomposed = locate(root, unicodedata.normalize('NFD', image), allow_outside=allow_outside)
    return decomposed if decomposed.is_file() else place
