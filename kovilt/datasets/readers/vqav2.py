"""Reads data sets in the format of VQAv2: a file of questions and a file of annotations, as translated sets have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kovilt.datasets.answers import read_answers
from kovilt.datasets.image_store import ImageIndex, index_by_folder
from kovilt.datasets.readers.base import QuestionReader, refusing
from kovilt.datasets.readers.json_rows import read_rows, required, required_text
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.errors import KoviltError
from kovilt.registry import READERS

_COCO_NAMES = (
    'COCO_train2014_{:0>12}.jpg',
    'COCO_val2014_{:0>12}.jpg',
    'COCO_test2015_{:0>12}.jpg',
    '{:0>12}.jpg',  # COCO 2017
)


@READERS.register_module()
class VQAv2Reader(QuestionReader):
    """Reader of the VQAv2 format: questions and annotations are joined by `question_id`, never by order.

    A question has ten answers, or one.

    Args:
        questions: the file with `questions` (question_id, image_id, question), relative to `data_root` or absolute; a
            name without folders is also searched beneath it, and `{split}` in it is replaced by the split.
        annotations: the file with `annotations` (question_id, `answers` or `multiple_choice_answer` or both,
            answer_type); as `questions`.
        image_names: possible file names of an image, with `{}` for the image_id; the first one that exists anywhere
            beneath `data_root`, in folders or zips, is taken. The default has the names of COCO.
        others: as in Reader.

    Source of layout and keys: the download page of visualqa.org.
    """

    COLUMNS = QuestionReader.SEVERAL_ANSWERS
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

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        images = index_by_folder(folders)
        question_file, annotation_file = (
            self.find_file(name.replace('{split}', self.split), folders) for name in (self.questions, self.annotations)
        )
        questions: dict[str, tuple[str, str]] = {}  # question_id -> image_id, question
        for row, source in refusing(read_rows(question_file, 'questions'), report):
            try:
                question_id = required(row, 'question_id', source)
                if question_id in questions:
                    report.leave_out('question_id seen before', source)
                    continue
                questions[question_id] = required(row, 'image_id', source), required_text(row, 'question', source)
            except KoviltError as error:
                report.refuse(error)
        for row, source in refusing(read_rows(annotation_file, 'annotations'), report):
            try:
                question_id = required(row, 'question_id', source)
                if question_id not in questions:
                    report.leave_out('question_id not among the questions, or seen before', source)
                    continue
                image_id, question = questions.pop(question_id)
                record = {
                    'image': self._find_image(images, image_id),
                    'question': question,
                    'question_id': question_id,
                    'answer': row.get('multiple_choice_answer'),
                    **read_answers(row, source),
                    'answer_type': row.get('answer_type'),
                    'source': source,
                }
            except KoviltError as error:
                report.refuse(error)
                continue
            yield record
        if questions:
            report.leave_out('question without annotation', None, len(questions))

    def _find_image(self, images: ImageIndex, image_id: str) -> FoundImage:
        names = [name.format(image_id) for name in self.image_names]
        numbers = (images.find([''], '', name) for name in names)
        number = next((number for number in numbers if number is not None), None)
        return FoundImage(images[number], f'vqav2/{image_id}', ' or '.join(names))
