"""Finds the splits to verify: the datasets of a config, or the data sets in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kovilt.datasets.folders import Folder, list_folders
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.aihub import FoundFile, JSONFile, is_label, json_files
from kovilt.datasets.readers.aihub_coco import AIHubCOCOKoreanReader
from kovilt.datasets.readers.aihub_knowledge import AIHubKnowledgeReader
from kovilt.datasets.readers.aihub_living import AIHubLivingReader
from kovilt.datasets.readers.aihub_visual import FILES as VISUAL_FILES
from kovilt.datasets.readers.aihub_visual import AIHubVisualReader
from kovilt.datasets.readers.base import Reader
from kovilt.datasets.readers.json_rows import JSONRows
from kovilt.datasets.readers.kvqa import KVQAReader
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.vqav2 import VQAv2Reader
from kovilt.errors import KoviltError
from kovilt.registry import READERS

_PLAIN_TABLE = re.compile(r'(train|val|dev|test)\.(?:jsonl|csv)')
_NAMED: dict[type[Reader], re.Pattern[str]] = {
    # files that only one data set has; their name gives the split, or the file holds both train and val
    AIHubCOCOKoreanReader: re.compile(r'MSCOCO_train_val_Korean\.json'),
    KVQAReader: re.compile(r'(?i:kvqa)_annotations(?:_(train|val|test))?\.json'),
    VQAv2Reader: re.compile(r'v2_OpenEnded_mscoco_(train|val)2014_questions\.json'),
}


@dataclass(frozen=True)
class DataSource:
    """A split to verify.

    Args:
        reader: the class of its reader.
        options: the arguments of the reader.
        training: whether it is a training split; the others are validation splits of those with the same reader.
        tokenizer, max_text_len: of the text pipeline of the config.
        min_count: of the answer vocabulary of the config.
    """

    reader: type[Reader]
    options: dict[str, Any]
    training: bool
    tokenizer: str | None = None
    max_text_len: int | None = None
    min_count: int | None = None

    @property
    def name(self) -> str:
        return self.options['split']

    @property
    def place(self) -> str:
        return str(self.options['data_root'])

    def __str__(self) -> str:
        return f'{self.reader.__name__} {self.name}'


def sources_of_config(config: Mapping[str, Any], path: str) -> list[DataSource]:
    """The datasets of the loaders of a config, each once, training splits first; messages name its `path`.

    Raises:
        KoviltError: no loader has a dataset of pairs.
    """
    sources: list[DataSource] = []
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset')
        if dataset is None:
            continue
        options = dict(dataset.get('reader') or {})
        kind = options.pop('type', None)
        reader = READERS.get(kind) if isinstance(kind, str) else kind
        if reader is None:
            raise KoviltError(f'{path}: {loader}.dataset.reader.type={kind!r} is no reader; verification reads rows')
        training, answers = loader == 'train_dataloader', dataset.get('answers')
        tokenize: Mapping[str, Any] = next(
            (step for step in dataset.get('text_pipeline', ()) if 'tokenizer' in step), {}
        )
        source = DataSource(
            reader,
            options,
            training=training,
            tokenizer=tokenize.get('tokenizer'),
            max_text_len=tokenize.get('max_text_len'),
            min_count=answers.get('min_count', 6) if training and isinstance(answers, dict) else None,
        )
        if all((source.reader, source.options) != (other.reader, other.options) for other in sources):
            sources.append(source)
    if not sources:
        raise KoviltError(f'{path}: none of its loaders has a dataset; give the config of a training run')
    return sources


def sources_of_folder(root: str, tokenizer: str | None, *, allow_outside: bool = False) -> list[DataSource]:
    """The splits of the data sets beneath a folder, recognized by file names and by the keys of AI-Hub's labels.

    Args:
        tokenizer: to count tokens with.
        allow_outside: of the readers: follow links and read images that lead out of the folder.

    Raises:
        KoviltError: no such folder, an incomplete download, no known data set.
    """
    path = Path(os.path.expanduser(root))
    if not path.is_dir():
        raise KoviltError(f'{root}: neither a config (.py) nor a folder')
    folders = list(list_folders(path, allow_outside=allow_outside))
    found = _named_files(folders)
    aihub = _aihub_reader(folders)
    if aihub is None and not found and any(_label_files(folders)):
        aihub = AIHubLivingReader  # all label files are damaged, which the reader will report
    if aihub:
        found[aihub] = {'train', 'val'}
    if not found:
        raise KoviltError(
            f'{root}: no data set that kovilt knows (train.jsonl or .csv, [라벨]*.zip, MSCOCO_train_val_Korean.json, '
            'KVQA_annotations_train.json, v2_OpenEnded_mscoco_train2014_questions.json); give a config that names '
            'the files'
        )
    return [
        DataSource(
            reader,
            {'data_root': root, 'split': split, 'allow_outside': allow_outside},
            training=split == 'train',
            tokenizer=tokenizer,
        )
        for reader, splits in found.items()
        for split in sorted(splits, key=('train', 'val', 'dev', 'test').index)
    ]


def _named_files(folders: list[Folder]) -> dict[type[Reader], set[str]]:
    """Reader -> splits, by the names of files; tables of one's own lie in the first folder, the root."""
    found: dict[type[Reader], set[str]] = {}
    tables = {table[1] for name in folders[0].files if (table := _PLAIN_TABLE.fullmatch(name))}
    if tables:
        found[PlainReader] = tables
    for folder in folders:
        for name in map(normalize_korean, folder.files):
            for reader, pattern in _NAMED.items():
                if match := pattern.fullmatch(name):
                    splits = {match[1]} if pattern.groups and match[1] else {'train', 'val'}
                    found.setdefault(reader, set()).update(splits)
    return found


def _aihub_reader(folders: list[Folder]) -> type[Reader] | None:
    """The reader of the AI-Hub question set in the folders, by its first readable label file; None = no such set."""
    for label in _label_files(folders):
        try:
            for file in json_files(label):
                if found := _reader_of_label(file):
                    return found
        except KoviltError:
            continue
    return None


def _label_files(folders: list[Folder]) -> Iterator[FoundFile]:
    """Possible label files of AI-Hub, by the name of their folder or by their own name."""
    for folder in folders:
        is_visual = {f'{name}.json' for name in VISUAL_FILES} <= set(folder.files)
        for name in folder.files:
            stem, suffix = os.path.splitext(name)
            file = FoundFile(os.path.join(folder.path, name), (*folder.parts, normalize_korean(stem)))
            loose = is_visual or any('vqa' in part.lower() for part in file.parts)
            if suffix.lower() in ('.json', '.zip') and is_label(file.parts) or suffix.lower() == '.json' and loose:
                yield file


def _reader_of_label(file: JSONFile) -> type[Reader] | None:
    if file.parts[-1].lower() in VISUAL_FILES:
        return AIHubVisualReader
    with file.open() as stream:
        key, row = next(iter(JSONRows(stream, file.path)), (None, None))
    if key == 'annotations' and isinstance(row, dict) and 'IMAGE_NAME' in row:
        return AIHubKnowledgeReader
    return AIHubLivingReader if key in ('images', 'question') and is_label(file.parts) else None
