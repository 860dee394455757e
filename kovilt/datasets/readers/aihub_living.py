"""Reads AI-Hub 101, 생활 및 거주환경 기반 VQA: the questions of the paper's training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kovilt.datasets.image_store import ImageIndex
from kovilt.datasets.readers.aihub import (
    LABEL_FOLDERS,
    LABEL_PREFIX,
    AIHubReader,
    JSONFile,
    PathParts,
    index_by_subset,
    json_files,
    remove_number,
)
from kovilt.datasets.readers.base import refusing
from kovilt.datasets.readers.json_rows import JSONRows, read_rows, required, required_text
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.registry import READERS


@READERS.register_module()
class AIHubLivingReader(AIHubReader):
    """Reader of AI-Hub 101 as downloaded: extracted folders, zips, or both, at any depth beneath `data_root`.

    Labels and images of a subset (개인생활환경 이미지 수집, ...) are matched by its name; without a match all images of
    the split are candidates. Rows and images are joined by `image_id`; an image is found as
    `<subset>/<category>/<file>` or else as the only `<file>` of the subset.

    Source of layout and keys: the public loader of KETI (AIRC-KETI/guesswhat) and the page of AI-Hub; docs/en/aihub.md.
    """

    DATA_SET = 'AI-Hub 101'
    HOW_TO_GET = (
        'Get 생활 및 거주환경 기반 VQA (dataSetSn=101) from https://aihub.or.kr, Training and Validation, and put the '
        'zips or their content beneath data_root; or draw the embedded data: kovilt rooms OUT'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        labels, folders, archives = self._find_files()
        images = index_by_subset(folders, archives, {_subset_of(label.parts) for label in labels})
        for label in labels:
            subset = _subset_of(label.parts)
            groups = [subset, ''] if subset in images.groups else images.groups
            for file in refusing(json_files(label), report):
                try:
                    listed = _list_images(file, images, groups)
                except KoviltError as error:
                    report.refuse(error)
                else:
                    yield from _read_questions(file, subset, images, listed, report)


def _read_questions(
    file: JSONFile, subset: str, images: ImageIndex, listed: dict[str, int | str], report: ReadReport
) -> Iterator[dict[str, Any]]:
    """The rows of one label file."""
    last = image = None  # questions about one image are usually neighbors; a dict of all images would take 130 MB
    for row, source in refusing(read_rows(file.path, 'question', open_file=file.open), report):
        try:
            image_id = required(row, 'image_id', source)
            record = {
                'question_id': required(row, 'question_id', source),
                'question': required_text(row, 'question', source),
                'answer': row.get('answer'),
                'answer_type': row.get('answer_type'),
                'source': source,
            }
        except KoviltError as error:
            report.refuse(error)
            continue
        if image_id != last:
            found = listed.get(image_id, f'image_id {image_id}')
            place, name = (images[found], '') if isinstance(found, int) else (None, found)
            last = image_id
            image = FoundImage(place, f'aihub101/{subset}/{image_id}', name, listed=image_id in listed)
        record['image'] = image
        yield record


def _list_images(file: JSONFile, images: ImageIndex, groups: list[str]) -> dict[str, int | str]:
    """image_id -> number in `images`, or the name of a missing image."""
    listed: dict[str, int | str] = {}
    with file.open() as stream:
        for key, row in (source := JSONRows(stream, file.path)):
            if key == 'images':
                image_id, name = required(row, 'image_id', source), required(row, 'image', source)
                category = text_of(row.get('category'), 'category', source)
                number = images.find(groups, category, name)
                listed.setdefault(image_id, f'{category}/{name}' if number is None else number)
            elif key == 'question' and listed:
                break  # usually all images come first; the questions are read in a second pass
    return listed


def _subset_of(parts: PathParts) -> str:
    """The subset of a label file: the name after [라벨], or else of the folder or file next to the label folder."""
    for part in parts:
        if part.startswith(LABEL_PREFIX):
            return remove_number(part[len(LABEL_PREFIX) :])
    place = next(number for number, part in enumerate(parts) if part.lower() in LABEL_FOLDERS)
    return remove_number(parts[min(place + 1, len(parts) - 1)])
