"""Makes prepared data (see `prepared`): whole or not at all, going on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch

from kovilt.datasets.pair_table import PairTable
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import (
    ANSWER_FILE,
    BROKEN_FILE,
    FORMAT,
    SUMMARY_FILE,
    file_digest,
    shard_file,
    shard_header,
)
from kovilt.datasets.rng import sampling_keys
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS
from kovilt.version import __version__

IMAGES_PER_SHARD = 1024  # 600 MB at 144 to 240 patches of 32 pixels
SPLITS = ('train', 'val', 'dev')
_SAMPLED_IMAGES = 64  # whose size is measured to tell how much room all will take
_NOT_READ = ('text_pipeline', 'keep_record', 'cache_images', 'token_cache')  # they change nothing here

Progress = Callable[[int, int], None]


class OpenSplit(NamedTuple):
    """What becomes one split: the rows of `dataset`; `reader` is what its config says of the rows."""

    dataset: PairDataset
    reader: dict[str, Any]
    image_pipeline: list[dict[str, Any]]  # empty: no images are prepared

    def describe(self) -> dict[str, Any]:
        """What decides the content of its files; plain JSON values."""
        summary = self.dataset.summary()
        content = {
            'reader': self.reader,
            'image_pipeline': self.image_pipeline,
            'rows': len(self.dataset),
            'images': summary['images'],
            'digest': summary['digest'],
        }
        return json.loads(json.dumps(content, default=str))


def prepare(
    out: str | Path,
    configs: Mapping[str, Mapping[str, Any]],
    *,
    rows: int | None = None,
    dev: int = 0,
    seed: int = 0,
    images: bool = True,
    workers: int = 1,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda message: None,
    progress: Callable[[str], Progress] = lambda split: lambda done, total: None,
) -> dict[str, Any] | None:
    """Write what the readers of a config read, and their images as patches, into the folder `out`.

    A folder that was not finished is gone on with: shards that are complete stay. The bytes do not depend on `workers`
    or on interruptions.

    Args:
        configs: of the datasets 'train' and, where there is one, 'val'.
        rows: of the training split, drawn by `seed`; None = as its config's `limit` says.
        dev: take about so many questions out of the training split as a split 'dev', by whole images.
        images: False = rows only.
        workers: processes that read images.
        overwrite: empty `out` first when it holds prepared data.
        say: gets a line when a decision was made.
        progress: gets a split's name and returns what is told (done, total) images.

    Returns:
        The content of `prepared.json`, None when `out` already holds exactly this.

    Raises:
        KoviltError: `out` holds something else, too little room, more broken training images than allowed, a pipeline
            that augments; all that the readers raise.
    """
    out = Path(out)
    splits = _open_splits(configs, rows=rows, dev=dev, seed=seed, images=images)
    for split in splits.values():
        _check_pipeline(split)
    made_of = {'images_per_shard': IMAGES_PER_SHARD, **{name: split.describe() for name, split in splits.items()}}
    if _is_complete(out, made_of, overwrite):
        return None
    tables = {name: split.dataset.table() for name, split in splits.items()}
    summary: dict[str, Any] = {'format': FORMAT, 'made_of': made_of}
    try:
        say(_check_room(out, splits, tables))
        out.mkdir(parents=True, exist_ok=True)
        _write_json(out / SUMMARY_FILE, summary)
        summary |= {'made_with': {'kovilt': __version__, 'pillow': PIL.__version__}, 'splits': {}, 'files': {}}
        vocabulary = getattr(splits['train'].dataset, 'answer_vocabulary', None)
        if vocabulary is not None:
            vocabulary.save(out / ANSWER_FILE)
            summary['files'][ANSWER_FILE] = _file_entry(out / ANSWER_FILE)
        for name, split in splits.items():
            (out / name).mkdir(exist_ok=True)
            writer = _SplitWriter(out / name, split, made_of[name], workers)
            summary['splits'][name] = writer.write(tables[name], progress(name))
            summary['files'] |= {f'{name}/{file}': entry for file, entry in writer.files.items()}
        _write_json(out / SUMMARY_FILE, summary)
    except OSError as error:
        raise KoviltError(f'{out}: cannot be written ({error.strerror or error})') from error
    for name in splits:
        for state in (out / name).glob('*.state'):
            state.unlink()
    return summary


# What is prepared.


def _open_splits(
    configs: Mapping[str, Mapping[str, Any]], *, rows: int | None, dev: int, seed: int, images: bool
) -> dict[str, OpenSplit]:
    def opened(config: Mapping[str, Any]) -> OpenSplit:
        config = {'seed': seed, **config}
        dataset = DATASETS.build({**{k: v for k, v in config.items() if k not in _NOT_READ}, 'text_pipeline': []})
        if not isinstance(dataset, PairDataset):
            raise KoviltError(f'{config["type"]}: prepare reads single data sets of pairs, and this is none')
        reader = {k: v for k, v in config.items() if k not in (*_NOT_READ, 'image_pipeline', 'held_out')}
        reader['data_root'] = dataset.data_root
        return OpenSplit(dataset, reader, list(config['image_pipeline']) if images else [])

    train = dict(configs['train'], **({} if rows is None else {'limit': rows}))
    splits = {}
    if dev:
        source = opened({k: v for k, v in train.items() if k not in ('answers', 'limit')})
        held_out = _take_dev(source.dataset, dev, seed)
        splits['dev'] = source._replace(reader={**source.reader, 'dev': dev})
        train['held_out'] = held_out
    splits['train'] = opened(train)
    if 'val' in configs:
        splits['val'] = opened(configs['val'])
    return {name: splits[name] for name in SPLITS if name in splits}


def _take_dev(dataset: PairDataset, wanted: int, seed: int) -> set[int]:
    """Leave in `dataset` about `wanted` rows, all those of some images; returns the images' ids.

    Done before answers are left out as rare: a dev split asks what it asks, also for answers that nobody learned.
    """
    if not 0 < wanted < len(dataset):
        raise KoviltError(f'dev={wanted}: the training split has {len(dataset):,} rows')
    counts = np.bincount(dataset.row_images, minlength=len(dataset.image_ids))
    chosen = _choose_images(counts, sampling_keys(seed, dataset.image_ids), wanted)
    dataset.narrow(np.isin(dataset.row_images, chosen))
    return set(dataset.image_ids[chosen].tolist())


def _choose_images(counts: np.ndarray, ranks: np.ndarray, wanted: int) -> list[int]:
    """Images, by `ranks` and as they fit, at least one: their `counts` of rows add up to `wanted` or near it."""
    order = [image for image in np.argsort(ranks, kind='stable').tolist() if counts[image]]
    chosen, left = [], wanted
    for image in order:
        if counts[image] <= left:
            chosen.append(image)
            left -= counts[image]
        if not left:
            return chosen
    smallest = min(set(order) - set(chosen), key=lambda image: (counts[image], ranks[image]))
    return [*chosen, smallest] if not chosen or counts[smallest] - left < left else chosen


def _check_pipeline(split: OpenSplit) -> None:
    if not split.image_pipeline:
        return
    augmenting = next((step for step in split.dataset.image_pipeline if getattr(step, 'augments', False)), None)
    if augmenting is not None:
        name = type(augmenting).__name__
        raise KoviltError(
            f'image_pipeline: {name} changes the images anew in every epoch; prepare without it, and train with '
            f'LoadPrepared, JoinPatches, {name} and Patchify'
        )


# Where it goes.


def _is_complete(out: Path, made_of: dict[str, Any], overwrite: bool) -> bool:
    """Whether `out` holds all of it already; if not, what it holds is a part of it, or nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not out.is_dir():
        raise KoviltError(f'{out} is a file: name a folder')
    try:
        there = json.loads((out / SUMMARY_FILE).read_text(encoding='utf-8'))
        differing = _differences(there['made_of'], made_of)
        if there['format'] != FORMAT:
            differing.append(f'format {there["format"]}, not {FORMAT}')
    except (OSError, ValueError, KeyError, TypeError):
        raise KoviltError(f'{out} is not empty and holds no prepared data: name another folder or empty it') from None
    if overwrite:
        _clear(out)
        return False
    if differing:
        more = f' and {len(differing) - 3} more' if len(differing) > 3 else ''
        raise KoviltError(
            f'{out} holds other prepared data ({"; ".join(differing[:3])}{more}): name another folder, or give '
            '--overwrite to lose it'
        )
    return 'files' in there


def _differences(there: Any, here: Any, path: str = '') -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [*here, *(key for key in there if key not in here)]
        nested = (_differences(there.get(key), here.get(key), f'{path}.{key}' if path else key) for key in keys)
        return [difference for part in nested for difference in part]
    return [] if there == here else [f'{path} {_short(there)}, not {_short(here)}']


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _clear(out: Path) -> None:
    """Removes what `prepare` writes and nothing else; the summary last, so that it can be done again."""
    for name in SPLITS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (ANSWER_FILE, SUMMARY_FILE):
        (out / name).unlink(missing_ok=True)


def _check_room(out: Path, splits: Mapping[str, OpenSplit], tables: Mapping[str, PairTable]) -> str:
    """How much room it takes, in words.

    Raises:
        KoviltError: the disk has less.
    """
    needed = sum(values.nbytes for table in tables.values() for values in table.arrays().values())
    images = 0
    for split in splits.values():
        if split.image_pipeline:
            images += split.dataset.num_images
            needed += _image_bytes(split) * split.dataset.num_images
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    written = sum(file.stat().st_size for file in out.glob('*/*.patches'))
    free = shutil.disk_usage(there).free
    found = f'{out}: about {_gigabytes(needed)} for {images:,} images and the rows; {_gigabytes(free)} are free'
    if needed - written > free:
        raise KoviltError(f'{found}: name a folder on another disk, fewer rows, or --no-images')
    return found


def _image_bytes(split: OpenSplit) -> float:
    """Mean size of an image's patches, of a sample read as all will be."""
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


def _write_json(path: Path, content: Any) -> None:
    """A reader never sees half a file."""
    draft = path.with_name(f'{path.name}.tmp')
    draft.write_text(json.dumps(content, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    draft.replace(path)


def _file_entry(path: Path) -> dict[str, Any]:
    return {'size': path.stat().st_size, 'sha256': file_digest(path)}


# One split's files.


class _Shard(NamedTuple):
    path: Path
    header: bytes
    images: list[int]  # numbers in the dataset

    @property
    def state_path(self) -> Path:
        """There once the shard is complete, until all are: what is known of it besides its patches."""
        return self.path.with_suffix('.state')


class _SplitWriter:
    """Writes one split; afterwards `files` has size and SHA-256 of each of its files, by name."""

    def __init__(self, folder: Path, split: OpenSplit, described: dict[str, Any], workers: int) -> None:
        self.folder, self.dataset, self.workers = folder, split.dataset, workers
        self.with_images = bool(split.image_pipeline)
        self.files: dict[str, dict[str, Any]] = {}
        content = [described['digest'], described['image_pipeline'], IMAGES_PER_SHARD]
        self.identity = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def write(self, table: PairTable, progress: Progress) -> dict[str, Any]:
        """Returns what `prepared.json` says of the split."""
        states = self._write_shards(progress) if self.with_images else []
        arrays = table.arrays()
        if states:
            arrays['grids'] = np.array([grid for state in states for grid in state['grids']], dtype=np.int32)
        for name, values in arrays.items():
            self._write_array(f'{name}.npy', values)
        broken = [
            {'number': shard * IMAGES_PER_SHARD + place, 'image': name, 'reason': reason}
            for shard, state in enumerate(states)
            for place, name, reason in state['broken']
        ]
        self._write_lines(BROKEN_FILE, broken)
        return {
            'rows': len(self.dataset),
            'images': self.dataset.num_images,
            'columns': table.kinds(),
            'left_out': dict(self.dataset.left_out),
            'broken': len(broken),
            'identity': self.identity,
            'shards': len(states),
            'images_per_shard': IMAGES_PER_SHARD,
            'patch_width': max((state['patch_width'] for state in states), default=0),
        }

    def _write_array(self, name: str, values: np.ndarray) -> None:
        draft = self.folder / f'{name}.tmp'
        with open(draft, 'wb') as file:
            np.save(file, values, allow_pickle=False)
        self._keep(draft, name)

    def _write_lines(self, name: str, rows: list[dict[str, Any]]) -> None:
        draft = self.folder / f'{name}.tmp'
        draft.write_text(''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows), encoding='utf-8')
        self._keep(draft, name)

    def _keep(self, draft: Path, name: str) -> None:
        self.files[name] = _file_entry(draft)
        draft.replace(self.folder / name)

    def _write_shards(self, progress: Progress) -> list[dict[str, Any]]:
        """The states of all shards, in order."""
        numbers = np.unique(self.dataset.row_images).tolist()
        shards = [
            _Shard(
                path=self.folder / shard_file(number),
                header=shard_header(self.identity, number),
                images=numbers[start : start + IMAGES_PER_SHARD],
            )
            for number, start in enumerate(range(0, len(numbers), IMAGES_PER_SHARD))
        ]
        states = [_finished(shard) for shard in shards]
        missing = [number for number, state in enumerate(states) if state is None]
        total, done = sum(len(shards[number].images) for number in missing), 0
        written = _run(self.dataset, [shards[number] for number in missing], self.workers)
        for number, state in zip(missing, written, strict=True):
            states[number] = state
            done += len(shards[number].images)
            progress(done, total)
            # where a disk has gone away, no hours are spent on writing that every image is broken
            if broken := [broken for state in states if state for broken in state['broken']]:
                self.dataset.check_broken(len(broken), broken[-1][2])
        for shard, state in zip(shards, states, strict=True):
            self.files[shard.path.name] = {'size': state['size'], 'sha256': state['sha256']}
        return states


def _finished(shard: _Shard) -> dict[str, Any] | None:
    """The state of a shard that is complete. One with broken images is made again: they may have been mended."""
    try:
        state = json.loads(shard.state_path.read_text(encoding='utf-8'))
        return state if not state['broken'] and shard.path.stat().st_size == state['size'] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run(dataset: PairDataset, shards: list[_Shard], workers: int) -> Iterator[dict[str, Any]]:
    """Writes the shards and gives their states in order."""
    if workers == 1 or len(shards) < 2:
        for shard in shards:
            yield _write_shard(dataset, shard)
        return
    pool = ProcessPoolExecutor(min(workers, len(shards)), initializer=_start_worker, initargs=(dataset,))
    try:
        yield from pool.map(_write_shard_here, shards)
    finally:
        pool.shutdown(cancel_futures=True)


_HERE: list[PairDataset] = []  # in a worker: the dataset, which came once and not with every shard


def _start_worker(dataset: PairDataset) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's: one message, not one from each
    torch.set_num_threads(1)  # OpenMP's threads do not come along with a fork: a worker would wait for them for ever
    _HERE.append(dataset)


def _write_shard_here(shard: _Shard) -> dict[str, Any]:
    return _write_shard(_HERE[0], shard)


def _write_shard(dataset: PairDataset, shard: _Shard) -> dict[str, Any]:
    """Writes the patches, then the state, each whole or not at all; returns the state."""
    grids, broken, width = [], [], 0
    digest = hashlib.sha256(shard.header)
    draft = shard.path.with_name(f'{shard.path.name}.tmp')
    with open(draft, 'wb') as file:
        file.write(shard.header)
        for place, number in enumerate(shard.images):
            try:
                image = dataset.read_image(number)
            except KoviltError as error:
                broken.append([place, dataset.image_name(number), str(error)])
                image = None
            if image is None:
                grids.append([0, 0])
                continue
            patches = np.ascontiguousarray(image['patches'])
            file.write(patches)
            digest.update(patches)
            width = patches.shape[1]
            grids.append([int(side) for side in image['grid']])
        file.flush()
        os.fsync(file.fileno())  # before its state: after a power cut no state speaks of bytes that never came
    draft.replace(shard.path)
    state = {
        'size': shard.path.stat().st_size,
        'sha256': digest.hexdigest(),
        'grids': grids,
        'broken': broken,
        'patch_width': width,
    }
    _write_json(shard.state_path, state)
    return state
