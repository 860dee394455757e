"""Small data sets in the real layouts, for the tests that read them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kovilt.datasets import CaptionReader, PairDataset, QuestionDataset, Reader
from kovilt.errors import KoviltError, user_error

SUBSET = '개인생활환경 이미지 수집'
IMAGE_PIPELINE = [
    {'type': 'LoadImage'},
    {'type': 'ResizeViLT', 'short': 32, 'long': 64, 'divisor': 16},
    {'type': 'Patchify', 'patch_size': 16},
]
QUESTIONS = [  # (question, answer, type), the same for every image
    ('소파는 무슨 색입니까', '빨간색', '색'),
    ('고양이가 있어요?', '예', '있다/없다'),
    ('의자는 몇 개예요?', '2', '개수'),
]


TEXTS = [question for question, _, _ in QUESTIONS] + [
    '소파 위에 고양이가 1 2 3 4 5 6 7 8 9 마리 있다.',
    '방 안에 빨간색 의자가 있다.',
    '탁자 밑에 공이 보여요',
]


def failure(loader: Iterable) -> str:
    """The error message of a loader that must fail. Without the traceback its workers end at once."""
    try:
        list(loader)
    except KoviltError as error:
        message = str(user_error(error))
        error.__traceback__ = None
        return message
    raise AssertionError('the loader did not fail')


class Data:
    """The data set of a test: its folder, and the pipelines to open it."""

    def __init__(self, root: Path, tokenizer: Path | None = None) -> None:
        self.root = root
        self.pipelines = {
            'image_pipeline': IMAGE_PIPELINE,
            'text_pipeline': [{'type': 'TokenizeKorean', 'tokenizer': str(tokenizer), 'max_text_len': 12}],
        }

    def open(
        self, reader: type[Reader], split: str = 'train', *, files: dict[str, Any] | None = None, **options: Any
    ) -> PairDataset:
        """Open the dataset of a reader; `files` are arguments of the reader, `options` of the dataset."""
        kind = PairDataset if issubclass(reader, CaptionReader) else QuestionDataset
        return kind(
            reader=reader(data_root=str(self.root), split=split, **(files or {})), **{**self.pipelines, **options}
        )

    def image(self, path: str, size: tuple[int, int] = (48, 32), seed: int = 0) -> Path:
        """An image of noise that differs by seed, below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        return file

    def write(self, path: str, content: object) -> Path:
        """Anything as UTF-8 JSON (a string as it is)."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1), 'utf-8'
        )
        return file

    def zip(self, path: str, folder: str, *, cp949: bool = False) -> Path:
        """Move a folder's content into a zip; `cp949`: with names as Korean Windows writes them, without a flag."""
        target, names = self.root / path, {}
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, 'w') as archive:
            for number, file in enumerate(sorted((self.root / folder).rglob('*'))):
                if file.is_file():
                    name = str(file.relative_to(self.root / folder))
                    if cp949:
                        names[name] = str(number).rjust(len(name.encode('cp949')), '~')  # as many bytes
                    archive.write(file, names.get(name, name))
                    file.unlink()
        content = target.read_bytes()
        for name, placeholder in names.items():
            content = content.replace(placeholder.encode(), name.encode('cp949'))
        target.write_bytes(content)
        return target

    def living(
        self,
        *,
        images: int = 4,
        split: str = 'Training',
        subset: str = SUBSET,
        id_type: type = int,
        write_images=True,
        first: int = 0,
    ) -> dict:
        """AI-Hub 101 in folders; three questions an image. Returns the content of the label file.

        first: the number of the first image; a split that begins after the other has images and ids of its own.
        """
        labels = {'images': [], 'question': []}
        for number in range(first, first + images):
            image_id = id_type(9000 + number)
            file = f'{number:032x}.jpg'
            labels['images'].append({'image_id': image_id, 'image': file, 'category': '음식', 'weather': '그외'})
            if write_images:
                self.image(f'{split}/images/{subset}/음식/{file}', seed=number)
            for question, answer, kind in QUESTIONS:
                question_id = first * len(QUESTIONS) + len(labels['question']) + 1
                labels['question'].append(
                    {
                        'question_id': question_id,
                        'image_id': image_id,
                        'question': question,
                        'answer': answer,
                        'answer_type': kind,
                    }
                )
        labels['question'].reverse()  # rows are joined by id, never by order
        self.write(f'{split}/labels/[라벨]{subset}/{subset}.json', labels)
        return labels

    def captions(self, *, train: int = 3, val: int = 1) -> list[dict]:
        """AI-Hub 261 beside COCO folders; two captions an image."""
        rows = []
        for number in range(train + val):
            folder = 'train2014' if number < train else 'val2014'
            path = f'{folder}/COCO_{folder}_{number + 1:012d}.jpg'
            self.image(path, seed=100 + number)
            captions = [f'소파 위에 고양이가 {number + 1}마리 있다.', '방 안에 빨간색 의자가 있다.']
            rows.append({'file_path': path, 'captions': ['A cat.'], 'id': number + 1, 'caption_ko': captions})
        self.write('MSCOCO_train_val_Korean.json', rows)
        return rows
