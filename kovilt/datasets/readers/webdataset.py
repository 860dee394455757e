"""Reads shards of webdataset: tars in which the files of a pair, an image and its caption, share a name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from kovilt.datasets.image_store import IMAGE_SUFFIXES
from kovilt.datasets.readers.base import CaptionReader, refusing
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.readers.table_reader import split_files
from kovilt.datasets.rng import hash63
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.tar_files import TarMember, member_names, tar_members
from kovilt.errors import KoviltError
from kovilt.json_text import encoding_error, parse_json
from kovilt.registry import READERS

_TEXT_SUFFIXES = ('.txt', '.caption', '.text')
_JSON_KEYS = ('caption_ko', 'captions_ko', 'caption', 'captions', 'text')  # the first that a .json has
_MAX_TEXT = 1 << 20  # bytes of a caption
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
            members = refusing(tar_members(str(path), (*IMAGE_SUFFIXES, *_TEXT_SUFFIXES, '.json'), 'image'), report)
            for key, files in groupby((member for _, member in members), key=_key_of):
                shard.name = key
                identity = f'webdataset/{name}/{key}'
                if divided and (hash63('webdataset', key) % _VAL_ONE_IN == 0) != (self.split == 'val'):
                    continue
                try:
                    found = _read_pair(list(files), shard, report)
                except KoviltError as error:
                    report.refuse(error)
                    continue
                if found is not None:
                    image, texts = found
                    place = FoundImage(image, identity, image.name)
                    yield from ({'text': text, 'image': place, 'source': shard} for text in texts)


def is_shard(path: Path) -> bool:
    """Whether a tar begins with a caption beside an image; others hold images alone."""
    names = member_names(str(path), _PROBED)
    images = {_stem(name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    texts = {_stem(name) for name in names if name.lower().endswith((*_TEXT_SUFFIXES, '.json'))}
    return bool(images & texts)


def _key_of(member: TarMember) -> str:
    return _stem(member.name)


def _stem(name: str) -> str:
    """A path without all that follows the first dot of its file's name: webdataset's rule for the files of a sample."""
    folder, _, file = name.rpartition('/')
    return f'{folder}/{file.partition(".")[0]}' if folder else file.partition('.')[0]


def _read_pair(files: Iterable[TarMember], shard: _Shard, report: ReadReport) -> tuple[TarMember, list[str]] | None:
    """The image of a pair and its captions; None, and a note in the report, if one of them is missing."""
    images, texts, from_json = list[TarMember](), list[str](), list[str]()
    for file in files:
        suffix = os.path.splitext(file.name)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(file)
        elif suffix == '.json':
            from_json = _captions_of(_read_text(file), file)
        else:
            texts.append(_read_text(file))
    if len(images) > 1:
        raise KoviltError(f'{shard.place}: {len(images)} images of one name; a pair has one')
    captions = from_json or texts
    if not images or not any(text.strip() for text in captions):
        report.leave_out('a caption without an image' if not images else 'an image without a caption', shard)
        return None
    return images[0], captions


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
