"""AI-Hub 261, 한국어 이미지 설명 데이터셋: Korean captions of the COCO pictures, for pre-training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.registry import DATASETS

from .columns import TextColumn
from .json_rows import JSONRows
from .pairs import PairDataset
from .pictures import PICTURE_SUFFIXES, PictureIndex, list_folders, zip_pictures

_SPLITS = {'train': ('train2014',), 'val': ('val2014',), 'trainval': ('train2014', 'val2014')}


@DATASETS.register_module()
class AIHubCOCOKorean(PairDataset):
    """One row per Korean caption; a record of the file has about five for one picture.

    The pictures are those of COCO 2014 in folders (or zips) `train2014` and `val2014` beneath `data_root`; where one is
    not there, the COCO 2017 picture of the same id is taken (`train2017/%012d.jpg`, `val2017/...`).

    Args:
        ann_file: the captions; relative to `data_root` or absolute. A bare name is also searched for beneath it.
        split: 'train' (the records whose `file_path` lies in train2014), 'val' (val2014) or 'trainval'.
        others: as in PairDataset.
    """

    COLUMNS = {'text': TextColumn}
    TEXT = 'text'
    HOW_TO_GET = (
        'Get 한국어 이미지 설명 데이터셋 (dataSetSn=261) from https://aihub.or.kr, and train2014.zip and '
        'val2014.zip from https://cocodataset.org/#download, and put MSCOCO_train_val_Korean.json, train2014/ and '
        'val2014/ beneath data_root; or draw the embedded data: python tools/data/make_rooms.py OUT'
    )

    def __init__(self, *, ann_file: str = 'MSCOCO_train_val_Korean.json', **others: Any) -> None:
        self.ann_file = ann_file
        super().__init__(**others)

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        if self.split not in _SPLITS:
            raise KoviltError(f'split={self.split!r}: AI-Hub 261 has {", ".join(map(repr, _SPLITS))}')
        path, pictures = self._discover()
        with path.open('rb') as stream:
            rows = JSONRows(stream, str(path))
            for _, row in rows:
                if not isinstance(row, dict) or not row.get('file_path'):
                    raise KoviltError(f"{rows.place}: no 'file_path' in this row; is this the file of AI-Hub 261?")
                folder, file = os.path.split(str(row['file_path']))
                if os.path.basename(folder) not in _SPLITS[self.split]:
                    continue
                captions = row.get('caption_ko') or []
                image = self._picture(pictures, os.path.basename(folder), file, row)
                for caption in [captions] if isinstance(captions, str) else captions:
                    yield {'image': image, 'text': caption}

    def _discover(self) -> tuple[Path, PictureIndex]:
        """The caption file and all pictures beneath `data_root`."""
        path = self.data_root / os.path.expanduser(self.ann_file)
        pictures = PictureIndex()
        for folder in list_folders(self.data_root):
            if not path.is_file() and self.ann_file in folder.files:
                path = Path(folder.path, self.ann_file)
            for name in folder.files:
                if name.lower().endswith(PICTURE_SUFFIXES):
                    pictures.add('', folder.parts[-1] if folder.parts else '', Path(folder.path, name))
                elif name.lower().endswith('.zip'):
                    for inside, member in zip_pictures(os.path.join(folder.path, name)):
                        pictures.add('', (name[: -len('.zip')], *inside)[-1], member)
        if not path.is_file():
            raise KoviltError(f'{path}: no such file. {self.HOW_TO_GET}')
        return path, pictures

    def _picture(self, pictures: PictureIndex, folder: str, file: str, row: dict[str, Any]) -> int:
        number = pictures.find([''], folder, file)
        digits = str(row.get('id') or '').zfill(12)
        if number is None:
            number = pictures.find([''], folder.replace('2014', '2017'), f'{digits}.jpg')
        place = None if number is None else pictures[number]
        return self.add_picture(
            place, identity=f'coco/{int(digits) if digits.isdigit() else file}', name=f'{folder}/{file}'
        )
