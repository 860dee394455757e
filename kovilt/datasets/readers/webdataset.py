"""Reads shards of webdataset: tars in which an image, and its caption or questions, are files of one name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from kovilt.datasets.folders import Folder
from kovilt.datasets.image_store import IMAGE_SUFFIXES
from kovilt.datasets.readers.base import CaptionReader, refusing
from kovilt.datasets.readers.column_names import names_question
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.readers.table_reader import TableReader, split_files
from kovilt.datasets.readers.tables import ObjectTable, TableFile
from kovilt.datasets.rng import hash63
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.tar_files import TarMember, member_names, tar_members
from kovilt.errors import KoviltError
from kovilt.json_text import encoding_error, parse_json
from kovilt.registry import READERS

_TEXT_SUFFIXES = ('.txt', '.caption', '.text')
_JSON_KEYS = ('caption_ko', 'captions_ko', 'caption', 'captions', 'text')  # the first that a .json has
_MAX_TEXT = 1 << 20  # bytes of a .txt or .json
_PROBED = 64  # members by which a shard is recognized
_VAL_ONE_IN = 100


class _Shard(RowSource):
    """A shard; the place of a pair is the shard and its name in it."""

    name = ''  # of the latest pair

    @property
    def line(self) -> int:
        return 0

    @property
    def place(self) -> str:
        return f'{self.path}/{self.name}'


@READERS.register_module()
class WebDatasetReader(CaptionReader):
    """Reader of webdataset's shards beneath `data_root`: `00000.tar` with a.jpg, a.txt, b.jpg, b.json, ...

    The caption of an image stands in a .txt, or in a .json as caption_ko, captions_ko, caption, captions (a list) or
    text; caption_ko of a .json goes first. The split of a shard is a word of its name or folder, and 'train' where none
    is; if none is 'val', a hash of the name puts one pair in a hundred there. Images are read from their place in the
    shard, in any order; a shard that is compressed must be extracted.

    Layout: webdataset's, as img2dataset writes it.
    """

    HOW_TO_GET = 'Put shards there, 00000.tar with a.jpg and a.txt (or a.json with a caption) for each pair'

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        shards = split_files(self.list_folders(), ('.tar',), is_shard)
        divided = 'val' not in shards and self.split in ('train', 'val')
        paths = shards.get('train' if divided else self.split, [])
        if not paths:
            there = f'; there is {", ".join(map(repr, sorted(shards)))}' if shards else ''
            raise KoviltError(f'{self.data_root}: no shard of split {self.split!r}{there}. {self.HOW_TO_GET}')
        for path in paths:
            shard, name = _Shard(path), os.path.relpath(path, self.data_root)
            for key, files in refusing(_samples(path), report):
                shard.name = key
                if divided and (hash63('webdataset', key) % _VAL_ONE_IN == 0) != (self.split == 'val'):
                    continue
                try:
                    found = _read_pair(files, shard, report)
                except KoviltError as error:
                    report.refuse(error)
                    continue
                if found is not None:
                    image, texts = found
                    place = FoundImage(image, _identity(name, key), image.name)
                    yield from ({'text': text, 'image': place, 'source': shard} for text in texts)


class ShardTable(ObjectTable):
    """The questions in a shard: the object, or each of the list, that the .json beside an image holds.

    Args:
        name: of the shard beneath the data set's folder, which makes the identities of its images.
        others: as in TableFile.
    """

    FOUND = ('image',)

    def __init__(
        self, path: Path, *, name: str, needs_answer: bool = True, columns: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(path, needs_answer=needs_answer, columns=columns)
        self._name, self._key, self._number = name, '', -1
        self._image: FoundImage | None = None
        self._files, self._objects = _samples(path), iter(list[Any]())

    @property
    def place(self) -> str:
        return f'{self.path}/{self._key}'

    @property
    def number(self) -> int:
        return self._number

    def next_object(self) -> Any:
        while (found := next(self._objects, self)) is self:  # which is no value of JSON
            self._key, files = next(self._files)
            content = self._read_sample(files)
            self._objects = iter(content if isinstance(content, list) else [content])
        self._number += 1
        return found

    def __next__(self) -> Any:
        row = super().__next__()
        return row | {'image': self._image} if isinstance(row, dict) else row

    def _read_sample(self, files: list[TarMember]) -> Any:
        """The content of the .json; sets `_image`."""
        image = _only_image(files, self)
        self._image = FoundImage(image, _identity(self._name, self._key), image.name if image else self.place)
        labels = next((file for file in files if file.name.lower().endswith('.json')), None)
        if labels is None:
            raise KoviltError(f'{self.place}: no .json with a question beside this image')
        return parse_json(_read_text(labels), str(labels))


@READERS.register_module()
class WebDatasetQuestionReader(TableReader):
    """Reader of questions in webdataset's shards: `00000.tar` with a.jpg and a.json, b.jpg and b.json, ...

    A .json is a row as in `PlainReader` without its `image`, or a list of such rows. Else as `WebDatasetReader`, but
    where no shard is 'val', `val_share` makes that split.

    Layout: webdataset's.
    """

    SUFFIXES = ('.tar',)
    HOW_TO_GET = (
        'Put shards there, 00000.tar with a.jpg and a.json, {"question": "...", "answer": "..."}, for each image'
    )

    def find_files(self, split: str, folders: list[Folder]) -> list[Path]:
        return split_files(folders, self.SUFFIXES, is_shard).get(split, [])

    def open_table(self, path: Path, *, needs_answer: bool) -> TableFile:
        name = os.path.relpath(path, self.data_root)
        return ShardTable(path, name=name, needs_answer=needs_answer, columns=self.columns)


def is_shard(path: Path) -> bool:
    """Whether a tar begins with a caption beside an image; others hold images alone."""
    names = member_names(str(path), _PROBED)
    images = {_stem(name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    texts = {_stem(name) for name in names if name.lower().endswith((*_TEXT_SUFFIXES, '.json'))}
    return bool(images & texts)


def has_questions(path: Path) -> bool:
    """Whether the first .json of a shard holds a question and no caption."""
    try:
        files = (file for _, file in tar_members(str(path), (*_TEXT_SUFFIXES, '.json'), 'labels'))
        file = next(files, None)
        if file is None or not file.name.lower().endswith('.json'):
            return False
        content = parse_json(_read_text(file), str(file))
    except KoviltError:  # which the reader will report
        return False
    row = content[0] if isinstance(content, list) and content else content
    return isinstance(row, dict) and not any(row.get(key) for key in _JSON_KEYS) and names_question(row)


def _samples(path: Path) -> Iterator[tuple[str, list[TarMember]]]:
    """The samples of a shard: the name that its files share, and the files."""
    members = tar_members(str(path), (*IMAGE_SUFFIXES, *_TEXT_SUFFIXES, '.json'), 'image')
    return ((key, list(files)) for key, files in groupby((member for _, member in members), key=_key_of))


def _identity(shard: str, key: str) -> str:
    return f'webdataset/{shard}/{key}'


def _key_of(member: TarMember) -> str:
    return _stem(member.name)


def _stem(name: str) -> str:
    """A path without all that follows the first dot of its file's name: webdataset's rule for the files of a sample."""
    folder, _, file = name.rpartition('/')
    return f'{folder}/{file.partition(".")[0]}' if folder else file.partition('.')[0]


def _read_pair(files: list[TarMember], shard: _Shard, report: ReadReport) -> tuple[TarMember, list[str]] | None:
    """The image of a pair and its captions; None, and a note in the report, if one of them is missing."""
    image, texts, from_json = _only_image(files, shard), list[str](), list[str]()
    for file in files:
        if file.name.lower().endswith('.json'):
            from_json = _captions_of(_read_text(file), file)
        elif not _is_image(file):
            texts.append(_read_text(file))
    captions = from_json or texts
    if image is None or not any(text.strip() for text in captions):
        report.leave_out('a caption without an image' if image is None else 'an image without a caption', shard)
        return None
    return image, captions


def _only_image(files: list[TarMember], source: RowSource) -> TarMember | None:
    """The image among the files of a sample; None if there is none."""
    images = [file for file in files if _is_image(file)]
    if len(images) > 1:
        raise KoviltError(f'{source.place}: {len(images)} images of one name; a pair has one')
    return images[0] if images else None


def _is_image(file: TarMember) -> bool:
    return file.name.lower().endswith(IMAGE_SUFFIXES)


def _read_text(file: TarMember) -> str:
    if file.size > _MAX_TEXT:
        raise KoviltError(f'{file}: a text of {file.size:,} bytes; a caption has at most {_MAX_TEXT:,}')
    try:
        return file.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise encoding_error(str(file), error) from None


def _captions_of(text: str, file: TarMember) -> list[str]:
    """The captions in a .json; empty if it has none."""
    content = parse_json(text, str(file))
    if not isinstance(content, dict):
        raise KoviltError(f'{file}: holds no JSON object')
    value = next((content[key] for key in _JSON_KEYS if content.get(key)), None)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) for one in values):
        raise KoviltError(f'{file}: its caption is no text, {str(value)[:40]!r}')
    return values
