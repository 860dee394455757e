"""AI-Hub 101, 생활 및 거주환경 기반 VQA: the questions the paper trains on and evaluates with."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from kovilt.errors import KoviltError, nearest
from kovilt.registry import DATASETS

from .json_rows import JSONRows
from .korean import normalize_korean
from .pictures import PICTURE_SUFFIXES, Folder, PictureIndex, list_folders, member_parts, open_zip, zip_pictures
from .questions import QuestionDataset

_SPLITS = {'train': 'training', 'val': 'validation'}
_LABEL_PREFIX = '[라벨]'
_LABEL_FOLDERS = ('라벨링데이터', 'label', 'labels')
_NUMBERED = re.compile(r'_\d+$')  # one subset may come in several zips: 실내 가전 및 가구배치 이미지 수집_1, _2


class _Labels(NamedTuple):
    """A file or zip with labels, and the subset it speaks of."""

    path: str
    subset: str


@DATASETS.register_module()
class AIHubLivingVQA(QuestionDataset):
    """Reads AI-Hub 101 as it was downloaded: extracted folders, zips, or both, however deep beneath `data_root`.

    A file belongs to the split that the last part of its path with Training or Validation in it names. Labels are JSON
    files, or zips of them, whose name begins with [라벨] or that lie in a folder 라벨링데이터, label, labels or
    [라벨]...; all other folders and zips may hold pictures. Labels and pictures of a subset (개인생활환경 이미지 수집,
    ...) are matched by its name; without a match all pictures of the split count. Rows and pictures are joined by
    `image_id`, pictures found as `<subset>/<category>/<file>` or, failing that, as the only `<file>` of the subset.

    Layout and keys: the public loader of KETI (AIRC-KETI/guesswhat) and the AI-Hub page, see README.
    """

    HOW_TO_GET = (
        'Get 생활 및 거주환경 기반 VQA (dataSetSn=101) from https://aihub.or.kr, Training and Validation, and put the '
        'zips or their content beneath data_root; or draw the embedded data: python tools/data/make_rooms.py OUT'
    )

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        if self.split not in _SPLITS:
            raise KoviltError(f'split={self.split!r}: AI-Hub 101 has {" and ".join(map(repr, _SPLITS))}')
        labels, pictures = self._discover()
        seen: dict[str, set[str]] = {}  # subset -> question ids
        for container, subset in labels:
            groups = [subset, ''] if subset in pictures.groups else pictures.groups
            for path, open_file in _json_files(container):
                listed = _list_images(path, open_file, pictures, groups)
                yield from self._questions(path, open_file, subset, pictures, listed, seen.setdefault(subset, set()))

    def _discover(self) -> tuple[list[_Labels], PictureIndex]:
        """Label files and pictures of the split."""
        labels, elsewhere, folders, zips = [], [], [], []
        for folder in list_folders(self.data_root):
            has_pictures = False
            for name in folder.files:
                stem, suffix = os.path.splitext(name)
                suffix = suffix.lower()
                if suffix not in ('.json', '.zip'):
                    has_pictures |= suffix in PICTURE_SUFFIXES
                    continue
                path, parts = os.path.join(folder.path, name), (*folder.parts, normalize_korean(stem))
                split = self._split_of(parts)
                if _is_label(parts):
                    (labels if split == self.split else elsewhere).append(_Labels(path, _subset_of(parts)))
                elif suffix == '.zip' and split in (self.split, None):
                    zips.append((parts, path))
            if has_pictures and self._split_of(folder.parts) in (self.split, None):
                folders.append(folder)
        if not labels:
            found = f'; {len(elsewhere)} label files lie elsewhere, e.g. {elsewhere[0].path}' if elsewhere else ''
            raise KoviltError(
                f'{self.data_root}: no label file ([라벨]*.zip, or .json beneath 라벨링데이터 or labels) of '
                f'{_SPLITS[self.split].capitalize()}{found}. {self.HOW_TO_GET}'
            )
        return labels, _index_pictures(folders, zips, {label.subset for label in labels})

    def _split_of(self, parts: tuple[str, ...]) -> str | None:
        for part in (*self.data_root.parts, *parts)[::-1]:
            for split, word in _SPLITS.items():
                if word in part.lower():
                    return split
        return None

    def _questions(
        self,
        path: str,
        open_file: Callable[[], BinaryIO],
        subset: str,
        pictures: PictureIndex,
        listed: dict[str, int | str],
        seen: set[str],
    ) -> Iterator[dict[str, Any]]:
        """The rows of one label file; `seen` holds the question ids of its subset and is added to."""
        numbers: dict[str, int] = {}  # image_id -> picture of this dataset
        with open_file() as stream:
            for key, row in (rows := JSONRows(stream, path)):
                if key != 'question':
                    continue
                image_id, question_id = _value(row, 'image_id', rows), _value(row, 'question_id', rows)
                if question_id in seen:
                    self.left_out['question_id seen before'] += 1
                    continue
                seen.add(question_id)
                if image_id not in listed and not self.test_mode:
                    self.left_out['image_id not among the images of its file'] += 1
                    continue
                if image_id not in numbers:
                    found = listed.get(image_id, f'image_id {image_id}')
                    place, name = (pictures[found], '') if isinstance(found, int) else (None, found)
                    numbers[image_id] = self.add_picture(place, identity=f'aihub101/{subset}/{image_id}', name=name)
                yield {
                    'image': numbers[image_id],
                    'question': _value(row, 'question', rows),
                    'question_id': question_id,
                    'answer': row.get('answer'),
                    'answer_type': row.get('answer_type'),
                }


def _list_images(
    path: str, open_file: Callable[[], BinaryIO], pictures: PictureIndex, groups: list[str]
) -> dict[str, int | str]:
    """image_id -> number in `pictures`, or the name of a picture that is not there."""
    listed: dict[str, int | str] = {}
    with open_file() as stream:
        for key, row in (rows := JSONRows(stream, path)):
            if key == 'images':
                image_id, file = _value(row, 'image_id', rows), _value(row, 'image', rows)
                category = str(row.get('category') or '')
                number = pictures.find(groups, category, file)
                listed.setdefault(image_id, f'{category}/{file}' if number is None else number)
            elif key == 'question' and listed:
                break  # as a rule all images come first; the questions are read in a pass of their own
    return listed


def _value(row: Any, key: str, rows: JSONRows) -> str:
    """`row[key]` as a string: ids come as numbers or strings."""
    if not isinstance(row, dict):
        raise KoviltError(f'{rows.place}: expecting an object, found {str(row)[:40]!r}')
    if row.get(key) is None:
        raise KoviltError(f'{rows.place}: no {key!r} in this row{nearest(key, row)}; AI-Hub 101 has it in every row')
    return str(row[key])


def _json_files(container: str) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """(name for messages, opener) of a JSON file itself, or of each JSON file in a zip."""
    if container.lower().endswith('.json'):
        yield container, functools.partial(open, container, 'rb')
        return
    with open_zip(container) as archive:
        for member in archive.infolist():
            name = '/'.join(member_parts(member))
            if name.lower().endswith('.json'):
                yield f'{container}/{name}', functools.partial(archive.open, member)


def _is_label(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(_LABEL_PREFIX) or part.lower() in _LABEL_FOLDERS for part in parts)


def _subset_of(parts: tuple[str, ...]) -> str:
    """The subset a label file speaks of: what follows [라벨], else the folder or file next to the label folder."""
    for part in parts:
        if part.startswith(_LABEL_PREFIX):
            return _unnumbered(part[len(_LABEL_PREFIX) :])
    place = next(number for number, part in enumerate(parts) if part.lower() in _LABEL_FOLDERS)
    return _unnumbered(parts[min(place + 1, len(parts) - 1)])


def _unnumbered(name: str) -> str:
    return _NUMBERED.sub('', name.strip())


def _index_pictures(folders: list[Folder], zips: list[tuple[tuple[str, ...], str]], subsets: set[str]) -> PictureIndex:
    """All pictures, each in the group of the subset that a part of its path names, or in group '' when none does."""
    pictures = PictureIndex()

    @functools.cache
    def group_of(parts: tuple[str, ...]) -> str:
        return next((name for name in map(_unnumbered, parts) if name in subsets), '')

    for folder in folders:
        group, category = group_of(folder.parts), folder.parts[-1] if folder.parts else ''
        for name in folder.files:
            if name.lower().endswith(PICTURE_SUFFIXES):
                pictures.add(group, category, Path(folder.path, name))
    for parts, path in zips:
        for inside, member in zip_pictures(path):
            pictures.add(group_of((*parts, *inside)), (*parts, *inside)[-1], member)
    return pictures
