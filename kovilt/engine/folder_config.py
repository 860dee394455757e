"""The config of a data set in a folder, for commands that take a config and need its data alone."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kovilt.datasets.folders import check_data_root
from kovilt.datasets.readers.base import QuestionReader
from kovilt.datasets.recognition import find_data_sets
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError


def load_data_config(
    data: str, base: str, options: Iterable[str] = (), *, columns: Mapping[str, str] | None = None
) -> Config:
    """The config `data`, or, where it is a folder, that of the data set in it; arguments as of `config_of_folder`."""
    if Path(data).is_dir():
        return config_of_folder(data, base, options, columns=columns)
    return load_config(data, options)


def config_of_folder(
    folder: str,
    base: str,
    options: Iterable[str] = (),
    *,
    columns: Mapping[str, str] | None = None,
) -> Config:
    """A config that reads the data set in a folder, with the image and text pipelines of another config.

    It has the loaders of the splits that the data set has: `train_dataloader`, `val_dataloader`, `test_dataloader`.

    Args:
        base: the config, with a `train_dataloader` and a `val_dataloader` of questions.
        options: `a.b=value` texts for the base.
        columns: as those of a `TableReader` or `ParquetCaptionReader`.

    Raises:
        KoviltError: as `find_data_sets`; several data sets; columns for a reader that takes none.
    """
    root = check_data_root(folder)
    found = find_data_sets(root)
    if len(found) > 1:
        names = ', '.join(reader.__name__ for reader in found)
        raise KoviltError(f'{folder}: several data sets ({names}); give a config that names the reader')
    ((reader, splits),) = found.items()
    arguments: dict[str, Any] = {'type': reader.__name__, 'data_root': os.fspath(Path(root))}
    if columns:
        if not reader.MAPS_COLUMNS:
            raise KoviltError(f'--columns: {reader.__name__} has columns of its own')
        arguments['columns'] = dict(columns)
    config = load_config(base, options)
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    for split in ('train', 'val', 'test'):
        if split not in splits:
            config.pop(f'{split}_dataloader')
            continue
        dataset = config[f'{split}_dataloader'].dataset
        dataset.reader = {**arguments, 'split': split}
        if not issubclass(reader, QuestionReader):
            dataset.type = 'PairDataset'
            dataset.pop('answers', None)
    return config
