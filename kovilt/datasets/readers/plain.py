"""Reads a folder of your own: images, and a JSONL or CSV table of questions about them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from kovilt.datasets.answers import parse_answers
from kovilt.datasets.folders import Folder, locate, normalize_path, where_instead
from kovilt.datasets.image_store import ImageIndex, folder_images
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.base import QuestionReader, refusing
from kovilt.datasets.readers.json_rows import required, required_text
from kovilt.datasets.readers.tables import CSVTable, JSONLines, TableFile
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.zip_files import ZipMember
from kovilt.errors import KoviltError, nearest
from kovilt.registry import READERS


@READERS.register_module()
class PlainReader(QuestionReader):
    """Reader of `<split>.jsonl` or `<split>.csv` in `data_root`, one question a row.

    A row has `image`, `question` and `answer`, or `answers` where several people answered (JSONL: a list of strings, or
    of objects with an `answer`; CSV: separated by |). It may have `question_id` (default: the number of its line) and
    `answer_type`. Files are UTF-8. `image` is a path beneath `data_root` (see `allow_outside`). An image in a zip has
    the path that it would have if the zip were extracted in place, with or without a folder of the zip's name.

    Layout and keys: kovilt's own, see docs/en/data.md.
    """

    COLUMNS = QuestionReader.SEVERAL_ANSWERS
    HOW_TO_GET = (
        'Put train.jsonl and val.jsonl (or .csv) there, a row being {"image": "a.jpg", "question": "...", '
        '"answer": "..."}, and the images beneath, in folders or zips'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        table, images = self._open_table(folders), _index_by_path(folders)
        for row in refusing(table, report):
            try:
                record = self._question_record(row, table, images)
            except KoviltError as error:
                report.refuse(error)
            else:
                yield record

    def _question_record(self, row: Any, source: TableFile, images: ImageIndex) -> dict[str, Any]:
        image, question = required(row, 'image', source), required_text(row, 'question', source)
        if not image:
            raise KoviltError(f"{source.place}: 'image' is empty; every row needs it")
        if 'answer' not in row and 'answers' not in row:
            raise KoviltError(f"{source.place}: neither 'answer' nor 'answers' in this row{nearest('answer', row)}")
        if isinstance(row.get('answer'), (list, dict)):
            raise KoviltError(f"{source.place}: 'answer' is {str(row['answer'])[:40]}; several are called 'answers'")
        return {
            'image': self._find_image(images, image, source),
            'question': question,
            'question_id': source.line if row.get('question_id') in (None, '') else row['question_id'],
            'answer': row.get('answer'),
            'answers': parse_answers(row.get('answers'), source),
            'answer_type': row.get('answer_type'),
            'source': source,
        }

    def _open_table(self, folders: list[Folder]) -> TableFile:
        files = folders[0].files
        jsonl_name, csv_name = f'{self.split}.jsonl', f'{self.split}.csv'
        if jsonl_name in files and csv_name in files:
            raise KoviltError(f'{self.data_root}: both {jsonl_name} and {csv_name}; keep one of them')
        if jsonl_name in files:
            return JSONLines(self.data_root / jsonl_name)
        if csv_name in files:
            return CSVTable(self.data_root / csv_name)
        names = f'{jsonl_name} nor {csv_name}{where_instead([jsonl_name, csv_name], folders)}'
        raise KoviltError(f'{self.data_root}: neither {names}. {self.HOW_TO_GET}')

    def _find_image(self, images: ImageIndex, image: str, source: TableFile) -> FoundImage:
        try:
            path = normalize_path(image, self.data_root, allow_outside=self.allow_outside)
            place = images[images.at('', *map(normalize_korean, posixpath.split(path)))]
            if place is None and (self.data_root / path).is_file():
                place = locate(self.data_root, path, allow_outside=self.allow_outside)
        except KoviltError as error:
            raise KoviltError(f'{source.place}: {error}') from None
        return FoundImage(place, normalize_korean(path), path)


def _index_by_path(folders: list[Folder]) -> ImageIndex:
    """Index all images beneath a root in group ''; the category is the path of their folder."""
    images = ImageIndex()
    for folder in folders:
        for parts, place in folder_images(folder):
            images.add('', '/'.join(parts), place)
            if isinstance(place, ZipMember):
                depth = len(folder.parts)
                images.add('', '/'.join((*parts[:depth], *parts[depth + 1 :])), place)
    return images
