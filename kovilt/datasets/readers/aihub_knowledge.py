"""AI-Hub 71357, 외부 지식 기반 멀티모달 질의응답: questions that need knowledge from outside the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kovilt.datasets.image_store import ImageIndex
from kovilt.datasets.readers.aihub import AIHubQuestions, Parts, index_by_subset, is_label, json_files
from kovilt.datasets.readers.json_rows import Rows, read_rows, required
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS


@DATASETS.register_module()
class AIHubKnowledgeVQA(AIHubQuestions):
    """Reads AI-Hub 71357 as it was downloaded: extracted folders, zips, or both, however deep beneath `data_root`.

    Labels are the JSON files with VQA in their path (the set has others), loose or in zips beneath 라벨링데이터:
    `annotations`, one image each (`IMAGE_NAME`) with its `questions`. The Korean question and answer are read; a
    row's answer type is its `question_type`. Images are found by their name.

    Layout and keys: the public reader jp1924/HF_builders.
    """

    SET = 'AI-Hub 71357'
    HOW_TO_GET = (
        'Get 외부 지식 기반 멀티모달 질의응답 (dataSetSn=71357) from https://aihub.or.kr, Training and Validation, and '
        'put the zips or their content beneath data_root'
    )

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        labels, files = self._discover()
        images = index_by_subset(files, set())
        for file in (file for label in labels for file in self.guarded(json_files(label))):
            if not _speaks_of_questions(file.parts):
                continue
            for row, rows in self.guarded(read_rows(file.open, file.path, 'annotations')):
                with self.guard:
                    yield from self._questions(row, rows, images)

    def _questions(self, row: Any, rows: Rows, images: ImageIndex) -> Iterator[dict[str, Any]]:
        """The questions about one image."""
        name, questions = required(row, 'IMAGE_NAME', rows), row.get('questions') or []
        if not isinstance(questions, list):
            raise KoviltError(f"{rows.place}: 'questions' is no list, but {str(questions)[:40]!r}")
        number = images.find(images.groups, '', name)
        place = None if number is None else images[number]
        image = self.add_image(place, identity=f'aihub71357/{name}', name=name)
        for question in questions:
            with self.guard:
                kinds = question.get('question_type') if isinstance(question, dict) else None
                yield {
                    'image': image,
                    'question': required(question, 'question_ko', rows),
                    'question_id': required(question, 'question_id', rows),
                    'answer': question.get('answer_ko'),
                    'answer_type': ', '.join(map(str, kinds)) if isinstance(kinds, list) else kinds,
                    'source': rows,
                }

    def _is_label(self, parts: Parts, suffix: str) -> bool:
        return is_label(parts) or suffix == '.json' and _speaks_of_questions(parts)


def _speaks_of_questions(parts: Parts) -> bool:
    return any('vqa' in part.lower() for part in parts)
