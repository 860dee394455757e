"""Checks prepared data when it is opened: that its files fit together, so that damage never becomes a wrong sample.

The tables are checked as a whole, column by column: 7 million rows take a second. The patches of an image are compared
with their checksum when they are read, and whole shards with their digests by `verify_prepared`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kovilt.datasets.folders import normalize_path
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.table import CATEGORY, CATEGORY_LIST, NUMBER_LIST, STRING, Table
from kovilt.errors import KoviltError

REMEDY = 'copy it again, or prepare again: kovilt prepare CONFIG OUT --overwrite'
GRID = pa.list_(pa.int32(), 2)
CHECKSUM = 'patches_xxh3'  # column of the images: XXH3 (64 bits) of the patches, 0 where there are none
_ROW_COLUMNS = {
    'text': STRING,
    'question': STRING,
    'question_id': STRING,
    'answer': CATEGORY,
    'answer_type': CATEGORY,
    'answers': CATEGORY_LIST,
    'answer_weights': NUMBER_LIST,
    'options': CATEGORY_LIST,
    'image': pa.int32(),
}
_OTHER_TYPES = (STRING, CATEGORY, CATEGORY_LIST, pa.int64(), pa.int32())  # of the columns of readers that plugins add
_MAX_GRID = 10_000  # patches a side
_SHA256 = re.compile('[0-9a-f]{64}')
_SPLIT_KEYS: dict[str, type] = {
    'rows': int,
    'images': int,
    'left_out': dict,
    'broken': int,
    'identity': str,
    'shards': int,
    'images_per_shard': int,
    'patch_width': int,
}


def check_summary(summary: Mapping[str, Any], path: Path) -> None:
    """The content of a complete `prepared.json`: KoviltError that names the key unless its values have their types."""
    files, splits = summary.get('files'), summary.get('splits')
    _require(path, 'files', isinstance(files, dict) and files)
    _require(path, 'splits', isinstance(splits, dict) and splits)
    assert isinstance(files, dict) and isinstance(splits, dict)
    for name, file in files.items():
        place = f'files[{name!r}]'
        normalize_path(name, path.parent)
        _require(path, f'{place}.size', isinstance(file, dict) and _is_count(file.get('size')))
        _require(path, f'{place}.sha256', _SHA256.fullmatch(str(file.get('sha256'))))
    for name, split in splits.items():
        place = f'splits[{name!r}]'
        _require(path, place, isinstance(split, dict))
        for key, kind in _SPLIT_KEYS.items():
            value = split.get(key)
            _require(path, f'{place}.{key}', _is_count(value) if kind is int else isinstance(value, kind))
        _require(path, f'{place}.left_out', all(_is_count(count) for count in split['left_out'].values()))
        _require(path, f'{place}.images_per_shard', split['images_per_shard'] > 0)


def check_tables(rows: Table, images: Table, split: Mapping[str, Any], folder: Path, names: tuple[str, str]) -> None:
    """The tables of a split, as `map_table` gave them: KoviltError that names the column unless they fit together.

    Args:
        split: the split's part of `prepared.json`.
        names: of the files of rows and images in `folder`, for messages.
    """
    rows_path, images_path = (folder / name for name in names)
    for name, column in rows.items():
        fits = column.type == _ROW_COLUMNS[name] if name in _ROW_COLUMNS else column.type in _OTHER_TYPES
        _require(rows_path, f'column {name!r} of type {column.type}', fits)
    for name in ('image', 'text' if 'text' in rows else 'question'):
        _require(rows_path, f'no column {name!r}', name in rows)
    _require(rows_path, f'{len(rows["image"]):,} rows, not {split["rows"]:,}', len(rows['image']) == split['rows'])
    if 'answer_weights' in rows:
        _require(rows_path, "no column 'answers'", 'answers' in rows)
        weights, answers = (rows[name].value_lengths().to_numpy() for name in ('answer_weights', 'answers'))
        _require(rows_path, 'not as many weights as answers', ((weights == 0) | (weights == answers)).all())
    expected = ImageStore.COLUMNS | ({'grid': GRID} if split['shards'] else {})
    for name, kind in expected.items():
        _require(images_path, f'no column {name!r} of type {kind}', name in images and images[name].type == kind)
    if CHECKSUM in images:  # absent from folders of older versions
        kind = images[CHECKSUM].type
        _require(images_path, f'column {CHECKSUM!r} of type {kind}', kind == pa.uint64())
    row_images = rows['image'].to_numpy()
    num_images = len(images['name'])
    _require(rows_path, 'an image number out of range', ((row_images >= 0) & (row_images < num_images)).all())
    for name in ('size', 'content_size'):
        _require(images_path, f'a negative {name}', (images[name].to_numpy() >= 0).all())


def check_patches(
    grids: np.ndarray,
    split: Mapping[str, Any],
    shard_bytes: Collection[int],
    broken: Mapping[int, str],
    absent: np.ndarray,
    path: Path,
) -> None:
    """The grids of a split's images: KoviltError unless their patches fill its shards.

    Args:
        grids: int32 (images, 2); 0, 0 = the image is absent or broken.
        split: the split's part of `prepared.json`.
        shard_bytes: of the patches of each shard.
        broken: image number -> why it could not be read.
        absent: int (n,): the numbers of absent images.
        path: of the file with the grids, for messages.
    """
    sizes = grids.astype(np.int64)
    _require(path, 'a grid out of range', ((sizes >= 0) & (sizes <= _MAX_GRID)).all())
    patches = sizes.prod(axis=1)
    without = np.union1d(np.fromiter(broken, dtype=np.int64), absent)
    _require(
        path,
        'other images without patches than are absent or broken',
        np.array_equal(np.flatnonzero(patches == 0), without),
    )
    starts = np.arange(0, len(patches), split['images_per_shard'])
    _require(path, f'grids of {len(starts)} shards, not {split["shards"]}', len(starts) == split['shards'])
    expected = np.add.reduceat(patches, starts) * split['patch_width'] if len(starts) else starts
    different = np.flatnonzero(expected != np.fromiter(shard_bytes, dtype=np.int64))
    _require(path, f'the grids do not add up to the size of shard {different[:1].tolist()}', not len(different))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _require(path: Path, what: str, fits: Any) -> None:
    if not fits:
        raise KoviltError(f'{path}: damaged ({what}); {REMEDY}')
