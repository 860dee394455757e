"""Reads AI-Hub 104, 시각정보 기반 질의응답: questions by category and difficulty."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from kovilt.datasets.image_store import ImageIndex
from kovilt.datasets.readers.aihub import AIHubReader, JSONFile, PathParts, index_by_subset, is_label, json_files
from kovilt.datasets.readers.base import refusing
from kovilt.datasets.readers.json_rows import read_rows, required, required_text
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.errors import KoviltError
from kovilt.registry import READERS

FILES = ('annotation', 'images', 'question')
_LEVEL = re.compile(r'[상중하]_(?:train|valid\w*?)_(.+)', re.IGNORECASE)  # difficulty, split, category


@READERS.register_module()
class AIHubVisualReader(AIHubReader):
    """Reader of AI-Hub 104 as downloaded: extracted folders, zips, or both, at any depth beneath `data_root`.

    Labels are the files annotation.json, images.json and question.json of each folder `<level>_train_<category>` or
    `<level>_validate_<category>` (상, 중, 하: the difficulty), extracted or in zips beneath 라벨링데이터. Ids are
    unique within a folder: its three files are joined by ids, never by order, and the `question_id` of a row is
    `<folder>/<question_id>`. An image is found by its file name in the zip or folder `<category>`, or else as the only
    one of that name. The set has one answer a question and no answer types.

    Source of layout and keys: the public readers jp1924/HF_builders and SeanJeonghwanLee/KoBEiT3, which agree.
    """

    DATA_SET = 'AI-Hub 104'
    SPLIT_WORDS = {'train': 'train', 'val': 'valid'}
    HOW_TO_GET = (
        'Get 시각정보 기반 질의응답 (dataSetSn=104) from https://aihub.or.kr, Training and Validation, and put the '
        'zips or their content beneath data_root'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        labels, image_folders, archives = self._find_files()
        folders: dict[PathParts, dict[str, JSONFile]] = {}
        for label in labels:
            for file in refusing(json_files(label), report):
                *folder, stem = file.parts
                if stem.lower() in FILES and self._split_of(file.parts) == self.split:
                    folders.setdefault(tuple(folder), {})[stem.lower()] = file
        images = index_by_subset(image_folders, archives, {_category_of(folder) for folder in folders})
        for place, found in folders.items():
            try:
                listed, answers = _read_images_and_answers(found)
            except KoviltError as error:
                report.refuse(error)
            else:
                yield from _read_questions(place, found['question'], listed, answers, images, report)

    def _is_label(self, parts: PathParts, suffix: str) -> bool:
        return is_label(parts) or suffix == '.json' and parts[-1].lower() in FILES


def _read_images_and_answers(files: dict[str, JSONFile]) -> tuple[dict[str, str], dict[str, Any]]:
    """The file names by image_id, and the answers by question_id, of one category and level."""
    for name in FILES:
        if name not in files:
            place, beside = os.path.dirname(next(iter(files.values())).path), ', '.join(files)
            raise KoviltError(f'{place}: no {name}.json beside {beside}.json; extract the zip again')
    annotation, images = files['annotation'], files['images']
    listed: dict[str, str] = {}
    for row, source in read_rows(images.path, 'images', open_file=images.open):
        listed.setdefault(required(row, 'image_id', source), required(row, 'image', source))
    answers: dict[str, Any] = {}
    for row, source in read_rows(annotation.path, 'annotations', open_file=annotation.open):
        answers.setdefault(required(row, 'question_id', source), row.get('multiple_choice_answer'))
    return listed, answers


def _read_questions(
    folder: PathParts,
    file: JSONFile,
    listed: dict[str, str],
    answers: dict[str, Any],
    images: ImageIndex,
    report: ReadReport,
) -> Iterator[dict[str, Any]]:
    """The rows of one category and level."""
    category, level = _category_of(folder), '/'.join(folder[-1:])
    for row, source in refusing(read_rows(file.path, 'questions', open_file=file.open), report):
        try:
            image_id, question_id = required(row, 'image_id', source), required(row, 'question_id', source)
            question = required_text(row, 'question', source)
        except KoviltError as error:
            report.refuse(error)
            continue
        name = listed.get(image_id, f'image_id {image_id}')
        number = images.find([category, *images.groups], category, name)
        place = f'{category}/{name}'
        yield {
            'image': FoundImage(images[number], f'aihub104/{place}', place, listed=image_id in listed),
            'question': question,
            'question_id': f'{level}/{question_id}',
            'answer': answers.get(question_id),
            'source': source,
        }


def _category_of(folder: PathParts) -> str:
    """The category in `<level>_train_<category>`, or else the name of the folder."""
    name = '/'.join(folder[-1:])
    found = _LEVEL.fullmatch(name)
    return found[1] if found else name
