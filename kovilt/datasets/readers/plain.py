"""Reads a folder of your own: images, and a JSONL or CSV table of questions about them."""

from __future__ import annotations

from pathlib import Path

from kovilt.datasets.folders import Folder, where_instead
from kovilt.datasets.readers.table_reader import TableReader
from kovilt.datasets.readers.tables import CSVTable, JSONLines, TableFile
from kovilt.errors import KoviltError
from kovilt.registry import READERS


@READERS.register_module()
class PlainReader(TableReader):
    """Reader of `<split>.jsonl` or `<split>.csv` in `data_root`, one question a row (see `TableReader`).

    `answers` is a list of strings, or of objects with an `answer`, in JSONL, and a cell separated by | in CSV. Files
    are UTF-8. In JSONL `image` may be the image itself, in base64, with or without `data:image/jpeg;base64,` before it.

    Layout and keys: kovilt's own, see docs/en/data.md.
    """

    SUFFIXES = ('.jsonl', '.csv')
    HOW_TO_GET = (
        'Put train.jsonl and val.jsonl (or .csv) there, a row being {"image": "a.jpg", "question": "...", '
        '"answer": "..."}, and the images beneath, in folders or zips'
    )

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        names = [name for name in (f'{split}.jsonl', f'{split}.csv') if name in folders[0].files]
        if len(names) > 1:
            raise KoviltError(f'{self.data_root}: both {names[0]} and {names[1]}; keep one of them')
        return [self.data_root / name for name in names]

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        kind = CSVTable if path.suffix.lower() == '.csv' else JSONLines
        return kind(path, needs_answer=needs_answer, columns=self.columns)

    def _missing(self, split: str, folders: list[Folder]) -> str:
        if self.files is not None:
            return super()._missing(split, folders)
        names = f'{split}.jsonl', f'{split}.csv'
        return f'neither {names[0]} nor {names[1]}{where_instead(names, folders)}'
