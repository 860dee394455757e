"""Writing one split of prepared data (see `prepared`): first shards of patches, in parallel, then the rows."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import BROKEN_FILE, IMAGES_FILE, ROWS_FILE, shard_file, shard_header
from kovilt.datasets.prepared_check import CHECKSUM, GRID
from kovilt.datasets.preparing_task import Task
from kovilt.datasets.table import Table, write_table
from kovilt.errors import KoviltError
from kovilt.files import atomic_path, file_sha256, read_json, write_json, write_json_lines
from kovilt.processes import map_in_processes

Progress = Callable[[int, int], None]  # called with (images done, images in all)


class SplitWriter:
    """Writes one split of prepared data. Several tasks, each with its own SplitWriter, may share the shards.

    Args:
        folder: of the split.
        dataset: gives the rows and the images.
        identity: a digest of the rows, the images and the image pipeline; see `prepared.shard_header`.
        images_per_shard: number of images in each shard but the last.
        with_images: False = rows only.
    """

    def __init__(
        self, folder: Path, dataset: PairDataset, *, identity: str, images_per_shard: int, with_images: bool
    ) -> None:
        self.folder, self.dataset, self.identity, self.images_per_shard = folder, dataset, identity, images_per_shard
        numbers = np.unique(dataset.row_images).tolist() if with_images else []
        self._shards = [
            _Shard(
                path=folder / shard_file(number),
                header=shard_header(identity, number),
                images=numbers[start : start + images_per_shard],
            )
            for number, start in enumerate(range(0, len(numbers), images_per_shard))
        ]

    def write_shards(self, task: Task, workers: int, progress: Progress) -> None:
        """Write the shards of a task in `workers` processes, but none that an interrupted run has completed.

        A shard with broken images is written again: they may have been repaired since.

        Raises:
            KoviltError: more images are broken than `max_broken_fraction` of the dataset allows.
        """
        missing = []
        for shard in (shard for number, shard in enumerate(self._shards) if task.owns(number)):
            for draft in self.folder.glob(f'.{shard.path.name}.*.tmp'):
                draft.unlink()  # a killed process left it
            state = _read_state(shard)
            if state is None or state['broken']:
                shard.state_path.unlink(missing_ok=True)
                missing.append(shard)
        total, done, broken = sum(len(shard.images) for shard in missing), 0, 0
        states = map_in_processes(functools.partial(_write_shard, self.dataset), missing, workers=workers)
        for shard, state in zip(missing, states, strict=True):
            done += len(shard.images)
            progress(done, total)
            # Stop early when a disk has failed, rather than record for hours that every image is broken.
            if state['broken']:
                broken += len(state['broken'])
                self.dataset.check_broken(broken, state['broken'][-1][2])

    def read_states(self) -> list[dict[str, Any] | None]:
        """What `write_tables` needs of each shard, of all tasks; None for a shard that is not complete."""
        return [_read_state(shard) for shard in self._shards]

    def write_tables(
        self, states: list[dict[str, Any]], rows: Table, images: ImageStore
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Write the rows once all shards are complete.

        Returns:
            the split's part of `prepared.json`, and size and SHA-256 of each of its files, by name.

        Raises:
            KoviltError: too many images are broken, as in `write_shards`.
        """
        files, grids, checksums, broken, width = {}, [], [], [], 0
        for number, (shard, state) in enumerate(zip(self._shards, states, strict=True)):
            files[shard.path.name] = {'size': state['size'], 'sha256': state['sha256']}
            grids += state['grids']
            checksums += state['checksums']
            width = max(width, state['patch_width'])
            for position, name, reason in state['broken']:
                image = number * self.images_per_shard + position
                broken.append({'number': image, 'image': name, 'reason': reason})
        if broken:
            self.dataset.check_broken(len(broken), broken[-1]['reason'])
        write_table(self.folder / ROWS_FILE, rows)
        columns = {'grid': pa.array(grids, type=GRID), CHECKSUM: pa.array(checksums, type=pa.uint64())}
        write_table(self.folder / IMAGES_FILE, images.table | (columns if states else {}))
        write_json_lines(self.folder / BROKEN_FILE, broken)
        files |= {name: file_entry(self.folder / name) for name in (ROWS_FILE, IMAGES_FILE, BROKEN_FILE)}
        summary = {
            'rows': len(self.dataset),
            'images': self.dataset.num_images,
            'left_out': dict(self.dataset.left_out),
            'broken': len(broken),
            'identity': self.identity,
            'shards': len(states),
            'images_per_shard': self.images_per_shard,
            'patch_width': width,
        }
        return summary, files

    def remove_states(self) -> None:
        """Remove what only an unfinished preparation needs."""
        for shard in self._shards:
            shard.state_path.unlink(missing_ok=True)


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
    """The state of a shard; None when the shard is not complete."""
    try:
        state = read_json(shard.state_path)
        return state if shard.path.stat().st_size == state['size'] and 'checksums' in state else None
    except (KoviltError, OSError, KeyError):
        return None


def _write_shard(dataset: PairDataset, shard: _Shard) -> dict[str, Any]:
    """Write the patches, then the state, each completely or not at all; returns the state."""
    grids, checksums, broken, width = [], [], [], 0
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
                checksums.append(0)
                continue
            patches = np.ascontiguousarray(image['patches'])
            file.write(patches.data)
            digest.update(patches.data)
            checksums.append(xxhash.xxh3_64_intdigest(patches.data))
            width = patches.shape[1]
            grids.append([int(side) for side in image['grid']])
        file.flush()
        os.fsync(file.fileno())  # before the state: after a power cut no state may describe bytes that were lost
    state = {
        'size': shard.path.stat().st_size,
        'sha256': digest.hexdigest(),
        'grids': grids,
        'checksums': checksums,
        'broken': broken,
        'patch_width': width,
    }
    write_json(shard.state_path, state)
    return state
