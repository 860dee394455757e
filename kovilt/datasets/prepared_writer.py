"""Writing one split of prepared data (see `prepared`): shards of patches in parallel, then the rows."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import BROKEN_FILE, IMAGES_FILE, ROWS_FILE, shard_file, shard_header
from kovilt.datasets.table import Table, write_table
from kovilt.errors import KoviltError
from kovilt.files import atomic_path, file_sha256, read_json, write_json, write_json_lines

_GRID = pa.list_(pa.int32(), 2)

Progress = Callable[[int, int], None]  # called with (images done, images in all)


class SplitWriter:
    """Writes one split of prepared data; afterwards `files` has the size and SHA-256 of each of its files, by name.

    Shards that an interrupted run has completed are not written again.

    Args:
        folder: of the split.
        dataset: gives the rows and the images.
        identity: a digest of the rows, the images and the image pipeline; see `prepared.shard_header`.
        images_per_shard: number of images in each shard but the last.
        with_images: False = rows only.
        workers: processes that read images.
    """

    def __init__(
        self,
        folder: Path,
        dataset: PairDataset,
        *,
        identity: str,
        images_per_shard: int,
        with_images: bool,
        workers: int,
    ) -> None:
        self.folder, self.dataset, self.identity = folder, dataset, identity
        self.images_per_shard, self.with_images, self.workers = images_per_shard, with_images, workers
        self.files: dict[str, dict[str, Any]] = {}

    def write(self, rows: Table, images: ImageStore, progress: Progress) -> dict[str, Any]:
        """Write all files; returns the split's part of `prepared.json`."""
        states = self._write_shards(progress) if self.with_images else []
        grids = [grid for state in states for grid in state['grids']]
        write_table(self.folder / ROWS_FILE, rows)
        write_table(self.folder / IMAGES_FILE, images.table | ({'grid': pa.array(grids, type=_GRID)} if states else {}))
        broken = [
            {'number': shard * self.images_per_shard + position, 'image': name, 'reason': reason}
            for shard, state in enumerate(states)
            for position, name, reason in state['broken']
        ]
        write_json_lines(self.folder / BROKEN_FILE, broken)
        self.files |= {name: file_entry(self.folder / name) for name in (ROWS_FILE, IMAGES_FILE, BROKEN_FILE)}
        return {
            'rows': len(self.dataset),
            'images': self.dataset.num_images,
            'left_out': dict(self.dataset.left_out),
            'broken': len(broken),
            'identity': self.identity,
            'shards': len(states),
            'images_per_shard': self.images_per_shard,
            'patch_width': max((state['patch_width'] for state in states), default=0),
        }

    def _write_shards(self, progress: Progress) -> list[dict[str, Any]]:
        """Write the shards that are missing; returns the states of all, in order."""
        for draft in self.folder.glob('.*.tmp'):
            draft.unlink()  # a killed process left it
        numbers = np.unique(self.dataset.row_images).tolist()
        shards = [
            _Shard(
                path=self.folder / shard_file(number),
                header=shard_header(self.identity, number),
                images=numbers[start : start + self.images_per_shard],
            )
            for number, start in enumerate(range(0, len(numbers), self.images_per_shard))
        ]
        states = {number: state for number, shard in enumerate(shards) if (state := _read_state(shard)) is not None}
        missing = [number for number in range(len(shards)) if number not in states]
        total, done = sum(len(shards[number].images) for number in missing), 0
        written = _write_in_processes(self.dataset, [shards[number] for number in missing], self.workers)
        for number, state in zip(missing, written, strict=True):
            states[number] = state
            done += len(shards[number].images)
            progress(done, total)
            # Stop early when a disk has failed, rather than record for hours that every image is broken.
            if broken := [broken for state in states.values() for broken in state['broken']]:
                self.dataset.check_broken(len(broken), broken[-1][2])
        for number, shard in enumerate(shards):
            self.files[shard.path.name] = {'size': states[number]['size'], 'sha256': states[number]['sha256']}
        return [states[number] for number in range(len(shards))]


def file_entry(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as `prepared.json` lists them."""
    return {'size': path.stat().st_size, 'sha256': file_sha256(path, 'prepared')}


class _Shard(NamedTuple):
    path: Path
    header: bytes
    images: list[int]  # image numbers in the dataset

    @property
    def state_path(self) -> Path:
        """Exists from when the shard is complete until all are; holds what `prepared.json` needs to know about it."""
        return self.path.with_suffix('.state')


def _read_state(shard: _Shard) -> dict[str, Any] | None:
    """The state of a complete shard, else None; also for one with broken images, which may be repaired by now."""
    try:
        state = read_json(shard.state_path)
        return state if not state['broken'] and shard.path.stat().st_size == state['size'] else None
    except (KoviltError, OSError, KeyError):
        return None


def _write_in_processes(dataset: PairDataset, shards: list[_Shard], workers: int) -> Iterator[dict[str, Any]]:
    """Write shards in worker processes; gives their states in order."""
    if workers == 1 or len(shards) < 2:
        for shard in shards:
            yield _write_shard(dataset, shard)
        return
    pool = ProcessPoolExecutor(min(workers, len(shards)), initializer=_start_worker, initargs=(dataset,))
    try:
        yield from pool.map(_write_shard_in_worker, shards)
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER_DATASETS: list[PairDataset] = []  # in a worker: the dataset, which is sent once and not with every shard


def _start_worker(dataset: PairDataset) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the main process handles Ctrl-C, with one message
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork: a worker would wait for them forever
    _WORKER_DATASETS.append(dataset)


def _write_shard_in_worker(shard: _Shard) -> dict[str, Any]:
    return _write_shard(_WORKER_DATASETS[0], shard)


def _write_shard(dataset: PairDataset, shard: _Shard) -> dict[str, Any]:
    """Write the patches, then the state, each completely or not at all; returns the state."""
    grids, broken, width = [], [], 0
    digest = hashlib.sha256(shard.header)
    with atomic_path(shard.path) as draft, open(draft, 'wb') as file:
        file.write(shard.header)
        for position, number in enumerate(shard.images):
            try:
                image = dataset.read_image(number)
            except KoviltError as error:
                broken.append([position, dataset.image_store.name(number), str(error)])
                image = None
            if image is None:
                grids.append([0, 0])
                continue
            patches = np.ascontiguousarray(image['patches'])
            file.write(patches.data)
            digest.update(patches.data)
            width = patches.shape[1]
            grids.append([int(side) for side in image['grid']])
        file.flush()
        os.fsync(file.fileno())  # before the state: after a power cut no state may describe bytes that were lost
    state = {
        'size': shard.path.stat().st_size,
        'sha256': digest.hexdigest(),
        'grids': grids,
        'broken': broken,
        'patch_width': width,
    }
    write_json(shard.state_path, state)
    return state
