"""Making prepared data (see `prepared`): complete or not at all. A repeated command continues an interrupted one.

Several tasks, such as the elements of a Slurm array, may prepare one folder. Each reads all rows, writes its own
shards, and records each complete one in a `.state` file. The task that finds all shards complete writes the tables and
`prepared.json`. Two tasks that end together may both do so: they write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import ANSWER_FILE, FORMAT, SUMMARY_FILE, digest_summary
from kovilt.datasets.prepared_writer import Progress, SplitWriter, file_entry
from kovilt.datasets.preparing_task import THE_ONLY_TASK, Task
from kovilt.datasets.rng import sampling_keys
from kovilt.datasets.table import Table
from kovilt.errors import KoviltError
from kovilt.files import read_json, write_json
from kovilt.registry import DATASETS
from kovilt.version import __version__

IMAGES_PER_SHARD = 1024  # 600 MB at 144 to 240 patches of 32 pixels
SPLITS = ('train', 'val', 'test')
_SAMPLED_IMAGES = 64  # images whose size is measured to estimate the disk space
# They do not change what is written.
_UNUSED_ARGUMENTS = ('text_pipeline', 'keep_record', 'cache_images', 'teacher_answers')


class OpenSplit(NamedTuple):
    """What becomes one split: the rows of `dataset`; `arguments` are those that decide which rows these are."""

    dataset: PairDataset
    arguments: dict[str, Any]
    image_pipeline: list[dict[str, Any]]  # empty: no images are prepared

    def describe(self) -> dict[str, Any]:
        """Everything that decides the content of the split's files, as plain JSON values."""
        summary = self.dataset.summary()
        content = {
            'dataset': self.arguments,
            'image_pipeline': self.image_pipeline,
            'rows': len(self.dataset),
            'images': summary['images'],
            'digest': summary['digest'],
        }
        return json.loads(json.dumps(content, default=str))


class Preparation(NamedTuple):
    """What one call of `prepare` achieved.

    Attributes:
        summary: the content of `prepared.json`; None while shards of other tasks are missing.
        was_complete: the folder held exactly this data before the call.
        missing: the number of shards that other tasks have not completed yet.
    """

    summary: dict[str, Any] | None
    was_complete: bool = False
    missing: int = 0


def prepare(
    out: str | Path,
    configs: Mapping[str, Mapping[str, Any]],
    *,
    rows: int | None = None,
    val_rows: int = 0,
    seed: int = 0,
    images: bool = True,
    workers: int = 1,
    task: Task = THE_ONLY_TASK,
    overwrite: bool = False,
    log: Callable[[str], None] = lambda message: None,
    progress: Callable[[str], Progress] = lambda split: lambda done, total: None,
) -> Preparation:
    """Write the rows that the readers of a config give, and their images as patches, into the folder `out`.

    If `out` holds unfinished data of the same command, complete shards stay. The files do not depend on `workers`, on
    the number of tasks or on interruptions.

    Args:
        configs: of the datasets 'train' and, if there is one, 'val'.
        rows: number of training rows, sampled by `seed`; None = as `limit` in the config.
        val_rows: take about this many rows out of the training split as split 'val', by whole images. The data set's
            own 'val' then becomes split 'test'.
        images: False = rows only.
        workers: processes of this task that read images.
        task: the part of the shards that this call writes.
        overwrite: empty `out` first if it holds prepared data; for a single task.
        log: called with a line about the disk space.
        progress: called with the name of a split; returns a function that is called with (done, total) images.

    Raises:
        KoviltError: `out` holds something else, too little disk space, more broken training images than allowed, a
            pipeline that augments; all that the readers raise.
    """
    out = Path(out)
    if overwrite and task.count > 1:
        raise KoviltError(f'--overwrite: {task} would remove what the others write; empty {out} first')
    splits = open_splits(configs, rows=rows, val_rows=val_rows, seed=seed, images=images)
    for split in splits.values():
        _check_pipeline(split)
    descriptions = {name: split.describe() for name, split in splits.items()}
    made_of = {'images_per_shard': IMAGES_PER_SHARD, **descriptions}
    if (complete := _complete_summary(out, made_of, overwrite)) is not None:
        return Preparation(complete, was_complete=True)
    writers = {
        name: SplitWriter(
            out / name,
            split.dataset,
            identity=_split_identity(descriptions[name]),
            images_per_shard=IMAGES_PER_SHARD,
            with_images=bool(split.image_pipeline),
        )
        for name, split in splits.items()
    }
    tables = {name: split.dataset.table() for name, split in splits.items()}
    try:
        log(_check_disk_space(out, splits, tables))
        if not (out / SUMMARY_FILE).exists():  # or this would replace the complete one of a task that has just ended
            write_json(out / SUMMARY_FILE, {'format': FORMAT, 'made_of': made_of})
        for name, writer in writers.items():
            (out / name).mkdir(exist_ok=True)
            writer.write_shards(task, workers, progress(name))
        states = {name: writer.read_states() for name, writer in writers.items()}
        missing = sum(state is None for split_states in states.values() for state in split_states)
        if missing:  # unless another task has finished all, and removed the states, since this one began
            summary = _complete_summary(out, made_of, overwrite=False)
        else:
            summary = _write_tables(out, made_of, splits, writers, states, tables)
    except OSError as error:
        raise KoviltError(f'{out}: cannot be written ({error.strerror or error})') from error
    if summary is None:
        return Preparation(None, missing=missing)
    for writer in writers.values():
        writer.remove_states()
    return Preparation(summary)


def _write_tables(
    out: Path,
    made_of: dict[str, Any],
    splits: Mapping[str, OpenSplit],
    writers: Mapping[str, SplitWriter],
    states: Mapping[str, list[Any]],
    tables: Mapping[str, tuple[Table, ImageStore]],
) -> dict[str, Any]:
    """Write all that follows the shards, `prepared.json` last; returns its content."""
    files = {}
    vocabulary = getattr(splits['train'].dataset, 'answer_vocabulary', None)
    if vocabulary is not None:
        vocabulary.save(out / ANSWER_FILE)
        files[ANSWER_FILE] = file_entry(out / ANSWER_FILE)
    summaries = {}
    for name, writer in writers.items():
        summaries[name], written = writer.write_tables(states[name], *tables[name])
        files |= {f'{name}/{file}': entry for file, entry in written.items()}
    summary = {
        'format': FORMAT,
        'made_of': made_of,
        'made_with': {'kovilt': __version__, 'torch': torch.__version__, 'pillow': PIL.__version__},
        'splits': summaries,
        'files': files,
    }
    summary['digest'] = digest_summary(summary)
    write_json(out / SUMMARY_FILE, summary)
    return summary


# What is prepared.


def _split_identity(description: dict[str, Any]) -> str:
    """A digest of the rows, the images and the image pipeline of a split."""
    content = [description['digest'], description['image_pipeline'], IMAGES_PER_SHARD]
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def open_splits(
    configs: Mapping[str, Mapping[str, Any]], *, rows: int | None, val_rows: int, seed: int, images: bool
) -> dict[str, OpenSplit]:
    """Open the splits that `prepare` takes; a config of 'test' is one more, which `prepare` does not give."""

    def open_split(config: Mapping[str, Any]) -> OpenSplit:
        config = {'seed': seed, **config}
        used = {key: value for key, value in config.items() if key not in _UNUSED_ARGUMENTS}
        dataset = DATASETS.build({**used, 'text_pipeline': []})
        if not isinstance(dataset, PairDataset):
            raise KoviltError(f'{config["type"]}: prepare takes single data sets of pairs, and this is none')
        arguments = {key: value for key, value in used.items() if key not in ('image_pipeline', 'held_out')}
        arguments['reader'] = {**used['reader'], 'data_root': dataset.data_root}
        return OpenSplit(dataset, arguments, list(config['image_pipeline']) if images else [])

    splits = {}
    if 'train' not in configs:
        if rows is not None or val_rows:
            raise KoviltError('--rows, --val-rows: there are no training rows, of which they take some')
        return {name: open_split(config) for name, config in configs.items()}
    train = dict(configs['train'], **({} if rows is None else {'limit': rows}))
    if val_rows:
        source = open_split({key: value for key, value in train.items() if key not in ('answers', 'limit')})
        train['held_out'] = _hold_out_rows(source.dataset, val_rows, seed)
        splits['val'] = source._replace(arguments={**source.arguments, 'val_rows': val_rows})
    splits['train'] = open_split(train)
    if 'val' in configs:
        splits['test' if val_rows else 'val'] = open_split(configs['val'])
    if 'test' in configs and 'test' not in splits:
        splits['test'] = open_split(configs['test'])
    return {name: splits[name] for name in SPLITS if name in splits}


def _hold_out_rows(dataset: PairDataset, wanted: int, seed: int) -> set[int]:
    """Reduce `dataset` to about `wanted` rows: all rows of some images, whose ids are returned.

    This happens before rare answers are left out: a validation split keeps its questions whose answers are not in the
    vocabulary.
    """
    if not 0 < wanted < len(dataset):
        raise KoviltError(f'val_rows={wanted}: the training split has {len(dataset):,} rows')
    counts = np.bincount(dataset.row_images, minlength=len(dataset.image_store.image_ids))
    chosen = _choose_images(counts, sampling_keys(seed, dataset.image_store.image_ids), wanted)
    dataset.use_rows(np.isin(dataset.row_images, chosen))
    return set(dataset.image_store.image_ids[chosen].tolist())


def _choose_images(counts: np.ndarray, keys: np.ndarray, wanted: int) -> list[int]:
    """Choose images, at least one, whose `counts` of rows add up to `wanted` or nearly; smaller `keys` come first."""
    order = [image for image in np.argsort(keys, kind='stable').tolist() if counts[image]]
    chosen, left = [], wanted
    for image in order:
        if counts[image] <= left:
            chosen.append(image)
            left -= counts[image]
        if not left:
            return chosen
    smallest = min(set(order) - set(chosen), key=lambda image: (counts[image], keys[image]))
    return [*chosen, smallest] if not chosen or counts[smallest] - left < left else chosen


def _check_pipeline(split: OpenSplit) -> None:
    if not split.image_pipeline:
        return
    augmenting = next((step for step in split.dataset.image_pipeline if getattr(step, 'augments', False)), None)
    if augmenting is not None:
        name = type(augmenting).__name__
        raise KoviltError(
            f'image_pipeline: {name} changes the images in every epoch; prepare without it, and train with '
            f'LoadPrepared, JoinPatches, {name} and Patchify'
        )


# Where it is written.


def _complete_summary(out: Path, made_of: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The content of `prepared.json` if `out` is complete; None if it is empty or holds a part of the same data.

    Raises:
        KoviltError: `out` holds something else.
    """
    # A task that has just started may be about to rename its draft of prepared.json.
    if not out.exists() or (out.is_dir() and all(_is_draft(file) for file in out.iterdir())):
        return None
    if not out.is_dir():
        raise KoviltError(f'{out} is a file: name a folder')
    try:
        found = read_json(out / SUMMARY_FILE)
        differences = _differences(found['made_of'], made_of)
        if found['format'] != FORMAT:
            differences.append(f'format {found["format"]}, not {FORMAT}')
    except (KoviltError, KeyError):
        raise KoviltError(f'{out} is not empty and holds no prepared data: name another folder or empty it') from None
    if overwrite:
        _clear(out)
        return None
    if differences:
        more = f' and {len(differences) - 3} more' if len(differences) > 3 else ''
        raise KoviltError(
            f'{out} holds other prepared data ({"; ".join(differences[:3])}{more}): name another folder, or give '
            '--overwrite to replace it'
        )
    return found if 'files' in found else None


def _is_draft(path: Path) -> bool:
    return path.name.startswith(f'.{SUMMARY_FILE}.') and path.suffix == '.tmp'


def _differences(found: Any, wanted: Any, path: str = '') -> list[str]:
    """Describe where two JSON values differ, as '<path> <found>, not <wanted>'."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [*wanted, *(key for key in found if key not in wanted)]
        nested = (_differences(found.get(key), wanted.get(key), f'{path}.{key}' if path else key) for key in keys)
        return [difference for part in nested for difference in part]
    return [] if found == wanted else [f'{path} {_short(found)}, not {_short(wanted)}']


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _clear(out: Path) -> None:
    """Remove what `prepare` writes and nothing else; the summary last, so that an interruption can be repeated."""
    for name in SPLITS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (ANSWER_FILE, SUMMARY_FILE):
        (out / name).unlink(missing_ok=True)


def _check_disk_space(
    out: Path, splits: Mapping[str, OpenSplit], tables: Mapping[str, tuple[Table, ImageStore]]
) -> str:
    """Estimate the disk space and describe it.

    Raises:
        KoviltError: the disk has less.
    """
    needed: float = sum(
        column.nbytes for rows, images in tables.values() for table in (rows, images.table) for column in table.values()
    )
    images = 0
    for split in splits.values():
        if split.image_pipeline:
            images += split.dataset.num_images
            needed += _image_bytes(split) * split.dataset.num_images
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    written = sum(file.stat().st_size for file in out.glob('*/*.patches'))
    free = shutil.disk_usage(existing).free
    found = f'{out}: about {_gigabytes(needed)} for {images:,} images and the rows; {_gigabytes(free)} are free'
    if needed - written > free:
        raise KoviltError(f'{found}: name a folder on another disk, fewer rows, or --no-images')
    return found


def _image_bytes(split: OpenSplit) -> float:
    """Mean size in bytes of an image's patches, measured on some images."""
    numbers = np.unique(split.dataset.row_images)
    sampled = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), _SAMPLED_IMAGES)).astype(int)].tolist()
    sizes, error = [], None
    for number in sampled:
        try:
            if (image := split.dataset.read_image(number)) is not None:
                sizes.append(image['patches'].nbytes)
        except KoviltError as broken:
            error = broken
    if not sum(sizes):
        why = error or 'image_pipeline makes no patches'
        raise KoviltError(f'none of {len(sampled)} images gave patches: {why}; or give --no-images')
    return sum(sizes) / len(sizes)


def _gigabytes(size: float) -> str:
    return f'{size / 1e9:,.1f} GB' if size >= 1e9 else f'{size / 1e6:,.1f} MB'
