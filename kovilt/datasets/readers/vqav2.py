"""Pairs of files in the manner of VQAv2, a file of questions and one of annotations: the form of translated sets."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from kovilt.datasets.answers import parse_answers
from kovilt.datasets.image_store import Folder, ImageIndex, find_file, index_by_folder, list_folders
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.readers.json_rows import JSONRows, read_rows, required
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS

_COCO_NAMES = (
    'COCO_train2014_{:0>12}.jpg',
    'COCO_val2014_{:0>12}.jpg',
    'COCO_test2015_{:0>12}.jpg',
    '{:0>12}.jpg',  # COCO 2017
)


@DATASETS.register_module()
class VQAv2Style(QuestionDataset):
    """Questions and annotations joined by `question_id`, never by order; ten answers a question, or one.

    Args:
        questions: the file with `questions` (question_id, image_id, question), relative to `data_root` or absolute; a
            bare name is also searched for beneath it, and `{split}` in it stands for the split.
        annotations: the file with `annotations` (question_id, `answers` or `multiple_choice_answer` or both,
            answer_type); as `questions`.
        image_names: how images are called, `{}` being the image_id; the first of them that exists anywhere beneath
            `data_root`, in folders or zips, is taken. The default knows the images of COCO by their ids.
        others: as in QuestionDataset.
    """

    COLUMNS = QuestionDataset.SEVERAL_ANSWERS
    HOW_TO_GET = (
        'Put the files of questions and annotations and the images (of COCO: https://cocodataset.org/#download) '
        'beneath data_root, and name the files: questions=..., annotations=...'
    )

    def __init__(
        self,
        *,
        questions: str = 'v2_OpenEnded_mscoco_{split}2014_questions.json',
        annotations: str = 'v2_mscoco_{split}2014_annotations.json',
        image_names: str | Sequence[str] = _COCO_NAMES,
        **others: Any,
    ) -> None:
        self.questions, self.annotations = questions, annotations
        self.image_names = [image_names] if isinstance(image_names, str) else image_names
        for name in self.image_names:
            try:
                name.format('1')
            except (LookupError, ValueError):
                raise KoviltError(f'image_names: {name!r}; {{}} in it stands for the image_id, e.g. {{}}.jpg') from None
        super().__init__(**others)

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        folders = list(list_folders(self.data_root))
        images = index_by_folder(folders)
        asked: dict[str, tuple[str, str]] = {}  # question_id -> image_id, question
        for row, rows in self.guarded(self._read_rows(self.questions, 'questions', folders)):
            with self.guard:
                question_id = required(row, 'question_id', rows)
                if question_id in asked:
                    self.leave_out('question_id seen before', rows)
                    continue
                asked[question_id] = required(row, 'image_id', rows), required(row, 'question', rows)
        for row, rows in self.guarded(self._read_rows(self.annotations, 'annotations', folders)):
            with self.guard:
                question_id = required(row, 'question_id', rows)
                if question_id not in asked:
                    self.leave_out('question_id not among the questions, or seen before', rows)
                    continue
                image_id, question = asked.pop(question_id)
                yield {
                    'image': self._image(images, image_id),
                    'question': question,
                    'question_id': question_id,
                    'answer': row.get('multiple_choice_answer'),
                    'answers': parse_answers(row.get('answers'), rows),
                    'answer_type': row.get('answer_type'),
                    'source': rows,
                }
        if asked:
            self.left_out['question without annotation'] += len(asked)

    def _read_rows(self, name: str, key: str, folders: list[Folder]) -> Iterator[tuple[Any, JSONRows]]:
        name = name.replace('{split}', self.split)
        path = find_file(self.data_root, name, folders)
        if path is None:
            raise KoviltError(f'{self.data_root / name}: no such file. {self.HOW_TO_GET}')
        return read_rows(functools.partial(open, path, 'rb'), str(path), key)

    def _image(self, images: ImageIndex, image_id: str) -> int:
        names = [name.format(image_id) for name in self.image_names]
        numbers = (images.find([''], '', name) for name in names)
        number = next((number for number in numbers if number is not None), None)
        place = None if number is None else images[number]
        return self.add_image(place, identity=f'vqav2/{image_id}', name=' or '.join(names))
