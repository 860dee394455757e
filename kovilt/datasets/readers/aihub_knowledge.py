"""Reads AI-Hub 71357, 외부 지식 기반 멀티모달 질의응답: questions that need knowledge from outside the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kovilt.datasets.image_store import ImageIndex
from kovilt.datasets.readers.aihub import AIHubReader, PathParts, index_by_subset, is_label, json_files
from kovilt.datasets.readers.base import refusing
from kovilt.datasets.readers.json_rows import RowSource, read_rows, required, required_text
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.registry import READERS


@READERS.register_module()
class AIHubKnowledgeReader(AIHubReader):
    """Reader of AI-Hub 71357 as downloaded: extracted folders, zips, or both, at any depth beneath `data_root`.

    Labels are the JSON files with VQA in their path (the set has others), extracted or in zips beneath 라벨링데이터.
    Each of their `annotations` has one image (`IMAGE_NAME`) and its `questions`. The Korean question and answer are
    read; the answer type of a row is its `question_type`. Images are found by their name.

    Source of layout and keys: the public reader jp1924/HF_builders.
    """

    DATA_SET = 'AI-Hub 71357'
    HOW_TO_GET = (
        'Get 외부 지식 기반 멀티모달 질의응답 (dataSetSn=71357) from https://aihub.or.kr, Training and Validation, and '
        'put the zips or their content beneath data_root'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        labels, folders, archives = self._find_files()
        images = index_by_subset(folders, archives, set())
        for file in (file for label in labels for file in refusing(json_files(label), report)):
            if not _is_question_file(file.parts):
                continue
            for row, source in refusing(read_rows(file.path, 'annotations', open_file=file.open), report):
                try:
                    image, questions = _read_image(row, source, images)
                except KoviltError as error:
                    report.refuse(error)
                    continue
                for question in questions:
                    try:
                        record = _read_question(question, source)
                    except KoviltError as error:
                        report.refuse(error)
                        continue
                    yield {**record, 'image': image, 'source': source}

    def _is_label(self, parts: PathParts, suffix: str) -> bool:
        return is_label(parts) or suffix == '.json' and _is_question_file(parts)


def _read_image(row: Any, source: RowSource, images: ImageIndex) -> tuple[FoundImage, list[Any]]:
    """An image and the questions about it."""
    name, questions = required(row, 'IMAGE_NAME', source), row.get('questions') or []
    if not isinstance(questions, list):
        raise KoviltError(f"{source.place}: 'questions' is not a list, but {str(questions)[:40]!r}")
    number = images.find(images.groups, '', name)
    return FoundImage(images[number], f'aihub71357/{name}', name), questions


def _read_question(question: Any, source: RowSource) -> dict[str, Any]:
    types = question.get('question_type') if isinstance(question, dict) else None
    if isinstance(types, list):
        types = ', '.join(text_of(kind, 'question_type', source) for kind in types)
    return {
        'question': required_text(question, 'question_ko', source),
        'question_id': required(question, 'question_id', source),
        'answer': question.get('answer_ko'),
        'answer_type': types,
    }


def _is_question_file(parts: PathParts) -> bool:
    return any('vqa' in part.lower() for part in parts)
