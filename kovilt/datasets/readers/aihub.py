"""The shared file layout of the question sets of AI-Hub: labels and images in zips or extracted folders."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

from kovilt.datasets.folders import Folder
from kovilt.datasets.image_store import ARCHIVES, IMAGE_SUFFIXES, ImageIndex, archive_images
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.base import QuestionReader
from kovilt.datasets.zip_files import zip_members
from kovilt.errors import KoviltError
from kovilt.files import open_file

LABEL_PREFIX = '[라벨]'
LABEL_FOLDERS = ('라벨링데이터', 'label', 'labels')
_NUMBERED = re.compile(r'_\d+$')  # a subset may be split into several zips: 실내 가전 및 가구배치 이미지 수집_1, _2

PathParts = tuple[str, ...]  # normalized folder names beneath data_root, then the name of the file without suffix


class FoundFile(NamedTuple):
    """A JSON file, a zip or a tar."""

    path: str
    parts: PathParts


class JSONFile(NamedTuple):
    """A JSON file on disk or in a zip."""

    path: str  # for messages
    parts: PathParts
    open: Callable[[], IO[bytes]]


class AIHubReader(QuestionReader):
    """Base of the readers of AI-Hub question sets: finds their files as downloaded, in folders or zips of any depth.

    The split of a file is given by the last part of its path that contains one of `SPLIT_WORDS`. Labels are JSON files,
    or zips of them, whose name begins with [라벨] or that lie in a folder 라벨링데이터, label, labels or [라벨]...; a
    reader may add others by `_is_label`. All other folders and zips, and tars, may hold images.
    """

    DATA_SET: ClassVar[str]  # its name in messages: 'AI-Hub 101'
    SPLIT_WORDS: ClassVar[dict[str, str]] = {'train': 'training', 'val': 'validation'}

    def _find_files(self) -> tuple[list[FoundFile], list[Folder], list[FoundFile]]:
        """Find the label files of the split, and the folders, zips and tars that may hold its images.

        Raises:
            KoviltError: an unknown split, an incomplete download, no label file.
        """
        if self.split not in self.SPLIT_WORDS:
            raise KoviltError(f'split={self.split!r}: {self.DATA_SET} has {" and ".join(map(repr, self.SPLIT_WORDS))}')
        labels: list[FoundFile] = []
        elsewhere: list[FoundFile] = []  # labels of another split, or of none
        image_folders: list[Folder] = []
        archives: list[FoundFile] = []
        for folder in self.list_folders():
            has_images = False
            for name in folder.files:
                stem, suffix = os.path.splitext(name)
                suffix = suffix.lower()
                if suffix not in ('.json', *ARCHIVES):
                    has_images |= suffix in IMAGE_SUFFIXES
                    continue
                file = FoundFile(os.path.join(folder.path, name), (*folder.parts, normalize_korean(stem)))
                split = self._split_of(file.parts)
                if suffix != '.tar' and self._is_label(file.parts, suffix):
                    (labels if split == self.split else elsewhere).append(file)
                elif suffix in ARCHIVES and split in (self.split, None):
                    archives.append(file)
            if has_images and self._split_of(folder.parts) in (self.split, None):
                image_folders.append(folder)
        if not labels:
            found = ''
            if elsewhere:
                found = f'; {len(elsewhere)} label files belong to another split or to none, e.g. {elsewhere[0].path}'
            raise KoviltError(
                f'{self.data_root}: no label file ([라벨]*.zip, or .json beneath 라벨링데이터 or labels) of '
                f'{self.SPLIT_WORDS[self.split].capitalize()}{found}. {self.HOW_TO_GET}'
            )
        return labels, image_folders, archives

    def _is_label(self, parts: PathParts, suffix: str) -> bool:
        """Whether a .json or .zip file holds labels."""
        return is_label(parts)

    def _split_of(self, parts: PathParts) -> str | None:
        for part in (*self.data_root.parts, *parts)[::-1]:
            for split, word in self.SPLIT_WORDS.items():
                if word in part.lower():
                    return split
        return None


def is_label(parts: PathParts) -> bool:
    """Whether the path is that of labels, by the naming of all AI-Hub sets."""
    return any(part.startswith(LABEL_PREFIX) or part.lower() in LABEL_FOLDERS for part in parts)


def json_files(label: FoundFile) -> Iterator[JSONFile]:
    """The label file itself or, if it is a zip, each JSON file in it."""
    if label.path.lower().endswith('.json'):
        yield JSONFile(label.path, label.parts, lambda: open_file(label.path, 'labels'))
        return
    for folders, member in zip_members(label.path, ['.json'], 'labels'):
        stem, _ = os.path.splitext(os.path.basename(member.name))
        yield JSONFile(str(member), (*label.parts, *folders, stem), member.open)


def remove_number(name: str) -> str:
    """The name of a subset without the number of its zip."""
    return _NUMBERED.sub('', name.strip())


def index_by_subset(folders: list[Folder], archives: list[FoundFile], subsets: set[str]) -> ImageIndex:
    """Index all images; the group of an image is the subset named in its path, or '' if no subset is."""
    index = ImageIndex()

    @functools.cache
    def group_of(parts: PathParts) -> str:
        return next((name for name in map(remove_number, parts) if name in subsets), '')

    for folder in folders:
        group, category = group_of(folder.parts), folder.parts[-1] if folder.parts else ''
        for name in folder.files:
            if name.lower().endswith(IMAGE_SUFFIXES):
                index.add(group, category, Path(folder.path, name))
    for file in archives:
        for inside, member in archive_images(file.path):
            index.add(group_of((*file.parts, *inside)), (*file.parts, *inside)[-1], member)
    return index
