"""Finds the splits to verify: the datasets of a config, or the data sets in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kovilt.datasets.readers.base import Reader
from kovilt.datasets.recognition import find_data_sets
from kovilt.errors import KoviltError
from kovilt.registry import READERS


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


def sources_of_folder(
    root: str, tokenizer: str | None, *, allow_outside: bool = False, columns: Mapping[str, str] | None = None
) -> list[DataSource]:
    """The splits of the data sets beneath a folder, recognized as `find_data_sets` does.

    Args:
        tokenizer: to count tokens with.
        allow_outside: of the readers: follow links and read images that lead out of the folder.
        columns: of the readers that take them.

    Raises:
        KoviltError: no such folder, an incomplete download, no known data set; `columns` for a data set that has none.
    """
    path = Path(os.path.expanduser(root))
    if not path.is_dir():
        raise KoviltError(f'{root}: neither a config (.py) nor a folder')
    found = find_data_sets(path, allow_outside=allow_outside)
    if columns and not any(reader.MAPS_COLUMNS for reader in found):
        raise KoviltError(f'--columns: {", ".join(reader.__name__ for reader in found)} has columns of its own')
    return [
        DataSource(
            reader,
            {'data_root': root, 'split': split, 'allow_outside': allow_outside}
            | ({'columns': dict(columns)} if columns and reader.MAPS_COLUMNS else {}),
            training=split == 'train',
            tokenizer=tokenizer,
        )
        for reader, splits in found.items()
        for split in sorted(splits, key=('train', 'val', 'dev', 'test').index)
    ]
