"""The order of rows: one global order per epoch, the same for any number of processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from kovilt.ranges import BatchSize, Count, Seed, check_arguments
from kovilt.registry import DATA_SAMPLERS

_EPOCH = 1 << 40  # an index is row + epoch * _EPOCH, so that workers know the epoch of each row
_CHUNK = 1 << 16  # indices converted to Python integers at a time; those of 7 million rows would take 280 MB


class HasRowImages(Protocol):
    """A dataset that tells which image each of its rows is about."""

    @property
    def row_images(self) -> np.ndarray:
        """int (rows,): the number of each row's image."""


def join_index(epoch: int, row: int) -> int:
    """The index of a row in an epoch, as samplers give it to datasets."""
    return epoch * _EPOCH + row


def split_index(index: int) -> tuple[int, int]:
    """(epoch, row) of an index; undoes `join_index`."""
    return divmod(index, _EPOCH)


@DATA_SAMPLERS.register_module()
class ImageGroupSampler(Sampler):
    """Give all rows of a dataset, those of one image next to each other, so that a batch reads the image once.

    The order depends on (seed, epoch) alone and is that of the whole run; `GlobalBatchSampler` gives each process its
    part. Indices carry the epoch (`split_index`).

    Args:
        dataset: has `row_images`.
        shuffle: shuffle the images, and the rows of each, in every epoch.
        seed: the same in all processes; None = the processes agree on one.
        texts_per_image: at most this many rows of an image next to each other; its other rows form further groups
            elsewhere. None = all its rows in one group. 1 = rows in entirely random order or, without `shuffle`, the
            first rows of all images, then the second rows, and so on.
    """

    @check_arguments
    def __init__(
        self, dataset: HasRowImages, *, shuffle: bool, seed: Seed | None = None, texts_per_image: Count | None = None
    ) -> None:
        self.images = dataset.row_images
        self.shuffle, self.texts_per_image = shuffle, texts_per_image
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by MMEngine's DistSamplerSeedHook before each epoch."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """int64 (rows,): the rows in the order of this epoch."""
        count = len(self.images)
        rng = np.random.default_rng((self.seed, self.epoch))
        within = rng.random(count) if self.shuffle else np.zeros(count)
        order = np.lexsort((within, self.images))  # stable: images together, their rows shuffled or as they were
        starts = np.flatnonzero(np.diff(self.images[order], prepend=-1))  # where each image begins
        position = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))  # of each row within its image
        group_of_image, position = np.divmod(position, self.texts_per_image or max(count, 1))
        if not self.shuffle:
            return order[np.argsort(group_of_image, kind='stable')]
        group = np.cumsum(position == 0) - 1
        return order[np.argsort(rng.permutation(int((position == 0).sum()))[group], kind='stable')]

    def __iter__(self) -> Iterator[int]:
        order = self.order() + join_index(self.epoch, 0)
        for start in range(0, len(order), _CHUNK):
            yield from order[start : start + _CHUNK].tolist()

    def __len__(self) -> int:
        return len(self.images)


@DATA_SAMPLERS.register_module()
class GlobalBatchSampler(Sampler):
    """Cut one global order into batches of `batch_size` rows per process.

    Batch i of N processes consists of the rows i * N * batch_size to (i + 1) * N * batch_size of the order, of which
    process r takes the r-th part. Two processes therefore take the same steps as one process with twice the batch
    size. In training (the sampler shuffles) the last batch is filled up from the beginning of the order, so that all
    processes take equally many steps of equal size. In evaluation no row is repeated: the rows of the last batch are
    divided evenly, and a process may get none of them.

    Args:
        sampler: gives the global order; has `shuffle`.
        batch_size: rows per process.
        drop_last: leave out an incomplete last batch.
        round_up: fill up the last batch; None = if the sampler shuffles.
    """

    @check_arguments
    def __init__(
        self, sampler: ImageGroupSampler, batch_size: BatchSize, drop_last: bool = False, round_up: bool | None = None
    ) -> None:
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last
        self.round_up = sampler.shuffle if round_up is None else round_up
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[list[int]]:
        order = np.fromiter(self.sampler, dtype=np.int64, count=len(self.sampler))
        step = self.batch_size * self.world_size
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            if len(rows) < step:
                if self.drop_last:
                    return
                if self.round_up:
                    rows = np.take(order, range(start, start + step), mode='wrap')
            first, last = (len(rows) * rank // self.world_size for rank in (self.rank, self.rank + 1))
            if last > first:
                yield rows[first:last].tolist()

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size * self.world_size)
        if not rest or self.drop_last:
            return full
        has_rest = self.round_up or rest * (self.rank + 1) // self.world_size > rest * self.rank // self.world_size
        return full + bool(has_rest)
