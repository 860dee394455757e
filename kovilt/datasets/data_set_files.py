"""Writes a data set as others read it: Parquet files as on HuggingFace's hub, or a folder for `load_from_disk`.

    parquet   data/train-00000-of-00002.parquet, data/validation-00000-of-00001.parquet
    hf        dataset_dict.json; train/data-00000-of-00002.arrow, state.json, dataset_info.json; validation/...

A row is a question or caption with its columns, and `image`, a struct of `bytes` (those of the file) and `path`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kovilt.datasets.image_store import IMAGE_SUFFIXES, read_image_file
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.table import CATEGORY_LIST, NUMBER_LIST
from kovilt.errors import KoviltError
from kovilt.files import atomic_folder

Target = Literal['parquet', 'hf']
Progress = Callable[[int, int], None]  # called with (rows done, rows in all)

SPLIT_NAMES = {'train': 'train', 'val': 'validation', 'test': 'test'}  # kovilt's and the hub's
_ROWS = 100  # of a batch and a row group, as `datasets` writes tables with images
_SHARD_BYTES = 500_000_000
_DICTIONARY_BYTES = 256 << 20  # of Parquet: within a row group an image of several rows is stored once
_IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])


class WrittenSplit(NamedTuple):
    """What was written of a split: rows, images, files, and the images whose rows were left out."""

    rows: int
    images: int
    files: int
    missing: list[str]


def write_data_set(
    out: str | Path,
    splits: Mapping[str, PairDataset],
    target: Target,
    *,
    overwrite: bool = False,
    progress: Callable[[str], Progress] = lambda split: lambda done, total: None,
) -> dict[str, WrittenSplit]:
    """Write the rows of some splits with the files of their images into the folder `out`: all, or nothing.

    Rows whose image is absent or cannot be read are left out.

    Args:
        overwrite: replace what an earlier call wrote into `out`.
        progress: called with the name of a split; returns a function that is called with (done, total) rows.

    Raises:
        KoviltError: `out` holds something else, a full disk, a split without images.
    """
    out = Path(out)
    _check_out(out, overwrite)
    written = {}
    with atomic_folder(out) as draft:
        for name, dataset in splits.items():
            folder = draft / ('data' if target == 'parquet' else SPLIT_NAMES[name])
            folder.mkdir(exist_ok=True)
            written[name] = _write_split(folder, SPLIT_NAMES[name], dataset, target, progress(name))
        if target == 'hf':
            _write_json(draft / 'dataset_dict.json', {'splits': [SPLIT_NAMES[name] for name in splits]})
    return written


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise KoviltError(f'{out} is a file: name a folder')
    there = {entry.name for entry in out.iterdir()}
    if there and not there <= {'data', 'dataset_dict.json', *SPLIT_NAMES.values()}:
        raise KoviltError(f'{out}: holds other files; name another folder')
    if there and not overwrite:
        raise KoviltError(f'{out}: holds a data set; name another folder, or give --overwrite to replace it')


def _write_split(folder: Path, name: str, dataset: PairDataset, target: Target, progress: Progress) -> WrittenSplit:
    missing: list[str] = []
    schema, batches = _schema(dataset), _batches(dataset, missing, progress)
    rows, images, drafts = 0, set[int](), list[Path]()
    batch = next(batches, None)
    if batch is None:
        raise KoviltError(f'{dataset.data_root}: no row of split {dataset.split!r} has an image that can be read')
    while batch is not None:
        drafts.append(folder / f'draft-{len(drafts)}')
        size = 0
        with _open_writer(drafts[-1], schema, target) as writer:
            while batch is not None and size < _SHARD_BYTES:
                numbers, values = batch
                table = pa.RecordBatch.from_pylist(values, schema=schema)
                writer.write_batch(table)
                rows, size = rows + len(values), size + table.nbytes
                images.update(numbers)
                batch = next(batches, None)
    prefix, suffix = (name, 'parquet') if target == 'parquet' else ('data', 'arrow')
    names = [f'{prefix}-{number:05d}-of-{len(drafts):05d}.{suffix}' for number in range(len(drafts))]
    for draft, final in zip(drafts, names, strict=True):
        draft.rename(folder / final)
    if target == 'hf':
        _write_states(folder, name, names, schema)
    return WrittenSplit(rows, len(images), len(drafts), missing)


def _open_writer(path: Path, schema: pa.Schema, target: Target) -> Any:
    if target == 'hf':
        return pa.ipc.new_stream(str(path), schema)
    return pq.ParquetWriter(
        str(path), schema, use_dictionary=['image.bytes'], dictionary_pagesize_limit=_DICTIONARY_BYTES
    )


def _schema(dataset: PairDataset) -> pa.Schema:
    """The columns, with the features of `datasets` in their metadata."""
    fields, features = [], {}
    for name, column in dataset.row_set.columns.items():
        item, dtype = (pa.float64(), 'float64') if column.type == NUMBER_LIST else (pa.string(), 'string')
        several = column.type in (CATEGORY_LIST, NUMBER_LIST)
        fields.append((name, pa.list_(item) if several else item))
        feature = {'dtype': dtype, '_type': 'Value'}
        features[name] = {'feature': feature, '_type': 'Sequence'} if several else feature
    features['image'] = {'_type': 'Image'}
    metadata = {'huggingface': json.dumps({'info': {'features': features}})}
    return pa.schema([*fields, ('image', _IMAGE)], metadata=metadata)


def _batches(
    dataset: PairDataset, missing: list[str], progress: Progress
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """The image numbers and values of some rows at a time; the names of images that cannot be read go to `missing`."""
    numbers, rows = list[int](), list[dict[str, Any]]()
    latest, image = -1, None
    for row, number in enumerate(dataset.row_images.tolist()):
        if number != latest:  # the rows of an image are neighbors
            latest, image = number, _read_image(dataset, number)
            if image is None:
                missing.append(dataset.image_store.name(number))
        if image is not None:
            record = dataset.record(row)
            numbers.append(number)
            rows.append({name: record.get(name) for name in dataset.row_set.columns} | {'image': image})
        if len(rows) == _ROWS or row + 1 == len(dataset):
            progress(row + 1, len(dataset))
            if rows:
                yield numbers, rows
            numbers, rows = [], []


def _read_image(dataset: PairDataset, number: int) -> dict[str, Any] | None:
    place = dataset.image_store[number]
    if place is None:
        return None
    try:
        content = read_image_file(place)
    except KoviltError:
        return None
    name = os.path.basename(place.name)
    return {'bytes': content, 'path': name if name.lower().endswith(IMAGE_SUFFIXES) else None} if content else None


def _write_states(folder: Path, split: str, names: list[str], schema: pa.Schema) -> None:
    """The files beside the tables of a split that `load_from_disk` reads."""
    assert schema.metadata is not None  # `_schema` makes it
    features = json.loads(schema.metadata[b'huggingface'])['info']['features']
    _write_json(
        folder / 'dataset_info.json',
        {'citation': '', 'description': '', 'features': features, 'homepage': '', 'license': ''},
    )
    digest = hashlib.blake2b(f'{names} {features}'.encode(), digest_size=8)
    for name in names:
        digest.update(str((folder / name).stat().st_size).encode())
    state: dict[str, Any] = {
        '_data_files': [{'filename': name} for name in names],
        '_fingerprint': digest.hexdigest(),
        '_format_columns': None,
        '_format_kwargs': {},
        '_format_type': None,
        '_output_all_columns': False,
        '_split': split,
    }
    _write_json(folder / 'state.json', state)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + '\n', encoding='utf-8')
