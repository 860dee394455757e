"""Questions to be answered in bulk: the rows of a table, or every image of a folder with the same questions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kovilt.apis.questions import clean_question
from kovilt.datasets.folders import list_folders, locate
from kovilt.datasets.image_store import folder_images
from kovilt.datasets.options import has_options, read_choice
from kovilt.datasets.readers.json_rows import required
from kovilt.datasets.readers.tables import CSVTable, JSONLines, TableFile
from kovilt.datasets.values import text_of
from kovilt.datasets.zip_files import ZipMember
from kovilt.errors import KoviltError

_TABLES: dict[str, type[TableFile]] = {'.jsonl': JSONLines, '.csv': CSVTable}


class QuestionRow(NamedTuple):
    """One question about one image."""

    image: str  # as the table names it, or the path in the folder
    place: Path | ZipMember
    question: str
    question_id: str | None = None
    choices: tuple[str, ...] = ()  # the row's own options


def read_question_rows(
    source: Path, *, questions: Sequence[str] = (), image_root: Path | None = None, allow_outside: bool = False
) -> list[QuestionRow]:
    """The rows of a table, or the images of a folder and its zips, in the order of their names, with each question.

    Args:
        source: a JSONL or CSV file with `image` and `question` in each row, and maybe `question_id` and options, in a
            form of `read_choice`; other columns, such as answers, are ignored. Or a folder.
        questions: for a folder, and for a folder only.
        image_root: folder beneath which the images of a table lie; None = the folder of the table.
        allow_outside: accept images outside this folder.

    Raises:
        KoviltError: no such file or folder, a malformed row, a path that leads outside, no rows. A missing image or an
            unusable question is no error here: others can still be answered.
    """
    if source.is_dir():
        if not questions:
            raise KoviltError(f'{source}: a folder of images needs a question for them: --question "..."')
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
    if source.suffix.lower() not in _TABLES:
        raise KoviltError(f'{source}: neither a folder nor a table; give a file that ends with .jsonl or .csv')
    table = _TABLES[source.suffix.lower()](source, needs_answer=False)
    rows = list(_table_rows(table, image_root or source.parent, allow_outside))
    if not rows:
        raise KoviltError(f'{source}: no rows in it; a row is {{"image": "a.jpg", "question": "..."}}')
    return rows


def _table_rows(table: TableFile, root: Path, allow_outside: bool) -> Iterator[QuestionRow]:
    names: dict[str, str] = {}  # one string for all rows of an image
    places: dict[str, Path] = {}
    for row in table:
        image = required(row, 'image', table)
        image = names.setdefault(image, image)
        if image not in places:
            try:
                places[image] = _find(root, image, allow_outside)
            except KoviltError as error:
                raise KoviltError(f'{table.place}: {error}') from None
        question_id: Any = row.get('question_id')
        question, choices = required(row, 'question', table), ()
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
