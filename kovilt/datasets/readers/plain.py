"""Reads a folder of your own: images, and a JSONL or CSV table of questions about them."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from typing import Annotated, Any

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
from kovilt.ranges import Range, check_arguments
from kovilt.registry import READERS


@READERS.register_module()
class PlainReader(QuestionReader):
    """Reader of `<split>.jsonl` or `<split>.csv` in `data_root`, one question a row.

    A row has `image`, `question` and `answer`, or `answers` where several people answered (JSONL: a list of strings, or
    of objects with an `answer`; CSV: separated by |). It may have `question_id` (default: the number of its line) and
    `answer_type`. Files are UTF-8. `image` is a path beneath `data_root` (see `allow_outside`). An image in a zip has
    the path that it would have if the zip were extracted in place, with or without a folder of the zip's name.

    Layout and keys: kovilt's own, see docs/en/data.md.

    Args:
        val_share: if there is no table of `val`, this share (0 to 1) of the images of `train`, at least one, is split
            'val', with all questions about them, and the rest is 'train'. 0 = the tables are the splits.
        val_seed: chooses these images. An image's place in the order that is drawn depends on its path alone.
    """

    COLUMNS = QuestionReader.SEVERAL_ANSWERS
    HOW_TO_GET = (
        'Put train.jsonl and val.jsonl (or .csv) there, a row being {"image": "a.jpg", "question": "...", '
        '"answer": "..."}, and the images beneath, in folders or zips'
    )

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
    ) -> None:
        super().__init__(data_root=data_root, split=split, allow_outside=allow_outside, cache=cache)
        self.val_share, self.val_seed = val_share, val_seed

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        table, images = self._open_table(folders), _index_by_path(folders)
        is_val = self._choose_val_images(folders) if self.val_share and self.split in ('train', 'val') else None
        for row in refusing(table, report):
            try:
                if is_val is not None and is_val(row) != (self.split == 'val'):
                    continue
                record = self._question_record(row, table, images)
            except KoviltError as error:
                report.refuse(error)
            else:
                yield record

    def _choose_val_images(self, folders: list[Folder]) -> Callable[[Any], bool]:
        """A function that tells of each row of `train` whether its image is one of the validation split."""

        def rank(image: str) -> str:
            return hashlib.sha256(f'{self.val_seed}\0{image}'.encode(errors='backslashreplace')).hexdigest()

        def image_of(row: Any) -> str:
            value = row.get('image') if isinstance(row, dict) else None
            return normalize_korean(str(value))

        rows = refusing(self._open_table(folders), _Ignored())
        ranked = sorted({image_of(row) for row in rows}, key=rank)
        if len(ranked) < 2:
            raise KoviltError(
                f'{self.data_root}: {len(ranked)} images in train, none can be kept for validation; add images, or a '
                'table val.jsonl'
            )
        chosen = frozenset(ranked[: max(1, round(self.val_share * len(ranked)))])
        return lambda row: image_of(row) in chosen

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
        files, split = folders[0].files, self.split
        val_tables = [name for name in ('val.jsonl', 'val.csv') if name in files]
        if self.val_share and self.split in ('train', 'val'):
            if val_tables:
                raise KoviltError(f'{self.data_root}: {val_tables[0]} is the validation split; leave out val_share')
            split = 'train'
        jsonl_name, csv_name = f'{split}.jsonl', f'{split}.csv'
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
            if isinstance(place, ZipMember):
                depth = len(folder.parts)
                images.add('', '/'.join((*parts[:depth], *parts[depth + 1 :])), place)
    return images
