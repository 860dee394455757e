"""Reads AI-Hub 261, 한국어 이미지 설명 데이터셋: Korean captions of the COCO images, for pre-training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kovilt.datasets.image_store import ImageIndex, index_by_folder
from kovilt.datasets.readers.base import CaptionReader, refusing
from kovilt.datasets.readers.json_rows import RowSource, read_rows, required
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.registry import READERS

_SPLITS = {'train': ('train2014',), 'val': ('val2014',), 'trainval': ('train2014', 'val2014')}
_KARPATHY = {  # restval: the images of val2014 that are in the training split of Karpathy
    'train': ('train', 'restval'), 'val': ('val',), 'test': ('test',), 'trainval': ('train', 'restval', 'val'),
}  # fmt: skip


@READERS.register_module()
class AIHubCOCOKoreanReader(CaptionReader):
    """Reader of AI-Hub 261: one row a Korean caption; a record of the file has about five captions of one image.

    The images are those of COCO 2014, in folders or zips `train2014` and `val2014` beneath `data_root`. In place of a
    missing one the COCO 2017 image of the same id is taken (`train2017/%012d.jpg`, `val2017/...`).

    Args:
        ann_file: the captions; relative to `data_root` or absolute. A name without folders is also searched beneath it.
        karpathy: Karpathy's `dataset_coco.json`, found in the same way; its splits then replace those by folder.
        split: 'train' (the records whose `file_path` lies in train2014), 'val' (val2014) or 'trainval'; with `karpathy`
            'train' (its train and restval), 'val', 'test' or 'trainval'.
        others: as in Reader.

    Source of layout and keys: the public reader jp1924/HF_builders, with which five others agree.
    """

    HOW_TO_GET = (
        'Get 한국어 이미지 설명 데이터셋 (dataSetSn=261) from https://aihub.or.kr, and train2014.zip and '
        'val2014.zip from https://cocodataset.org/#download, and put MSCOCO_train_val_Korean.json, train2014/ and '
        'val2014/ beneath data_root; or draw the embedded data: kovilt rooms OUT'
    )

    def __init__(
        self, *, ann_file: str = 'MSCOCO_train_val_Korean.json', karpathy: str | None = None, **others: Any
    ) -> None:
        self.ann_file, self.karpathy = ann_file, karpathy
        super().__init__(**others)

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        splits = _SPLITS if self.karpathy is None else _KARPATHY
        if self.split not in splits:
            of = ' with karpathy' if self.karpathy else ''
            raise KoviltError(f'split={self.split!r}: AI-Hub 261{of} has {", ".join(map(repr, splits))}')
        folders = self.list_folders()
        path = self.find_file(self.ann_file, folders)
        split_of = _karpathy_splits(self.find_file(self.karpathy, folders)) if self.karpathy else None
        images = index_by_folder(folders)
        for row, source in refusing(read_rows(path, None), report):
            try:
                folder, file, digits, captions = _parse_row(row, source)
            except KoviltError as error:
                report.refuse(error)
                continue
            split = folder if split_of is None else split_of.get(digits)
            if split is None:
                report.leave_out('id not in the Karpathy split', source, len(captions))
            if split not in splits[self.split]:
                continue
            if not captions:
                report.leave_out('no Korean caption', source)
            image = _find_image(images, folder, file, digits)
            yield from ({'image': image, 'text': caption, 'source': source} for caption in captions)


def _parse_row(row: Any, source: RowSource) -> tuple[str, str, str, list[Any]]:
    """Folder and file name of the image, its id in twelve digits, and the captions."""
    if not isinstance(row, dict) or not row.get('file_path'):
        raise KoviltError(f"{source.place}: no 'file_path' in this row; is this the file of AI-Hub 261?")
    folder, file = os.path.split(required(row, 'file_path', source))
    captions = row.get('caption_ko')
    captions = [] if captions is None else [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list):
        raise KoviltError(f"{source.place}: 'caption_ko' is not a list, but {str(captions)[:40]!r}")
    return os.path.basename(folder), file, text_of(row.get('id'), 'id', source).zfill(12), captions


def _find_image(images: ImageIndex, folder: str, file: str, digits: str) -> FoundImage:
    number = images.find([''], folder, file)
    if number is None:
        number = images.find([''], folder.replace('2014', '2017'), f'{digits}.jpg')
    identity = f'coco/{int(digits) if digits.isdigit() else file}'
    return FoundImage(images[number], identity, f'{folder}/{file}')


def _karpathy_splits(path: Path) -> dict[str, str]:
    """COCO id in twelve digits -> train, restval, val or test."""
    return {
        required(row, 'cocoid', source).zfill(12): required(row, 'split', source)
        for row, source in read_rows(path, 'images')
    }
