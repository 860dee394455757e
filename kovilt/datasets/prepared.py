"""Prepared data: what a reader has read, with the images resized and cut into patches, in files that are mapped.

    prepared.json                  what it was made of; size and SHA-256 of every file, once all are there
    answers.json                   the training split's answer vocabulary, where it has one
    <split>/<array>.npy            a PairTable
    <split>/grids.npy              int32 (images, 2): rows and columns of each image in patches; 0, 0 = not readable
    <split>/broken.jsonl           the images that could not be read, and why
    <split>/shard-00000.patches    64 bytes that say whose shard this is, then the patches of `images_per_shard`
                                   images, uint8, one image after the other

Nothing is copied when it is opened: processes and workers share the pages that the system keeps of the files.
`tools/data/prepare.py` writes it (see `preparing`).
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kovilt.datasets.columns import TextColumn
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pair_table import PairTable
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.transforms.patches import LoadPrepared
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS

FORMAT = 2  # increased when this version cannot use older files; 2: resized by torchvision instead of Pillow
SUMMARY_FILE, ANSWER_FILE, BROKEN_FILE = 'prepared.json', 'answers.json', 'broken.jsonl'
HEADER_BYTES = 64
_AGAIN = 'copy it again, or prepare again: python tools/data/prepare.py CONFIG OUT --overwrite'


def shard_file(number: int) -> str:
    return f'shard-{number:05d}.patches'


def shard_header(identity: str, number: int) -> bytes:
    """The first bytes of a shard: `identity` tells the rows, images and image pipeline of its split from others."""
    return f'kovilt {identity} {number}'.encode().ljust(HEADER_BYTES)


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of `prepared.json`.

    Raises:
        KoviltError: none there, damaged, unfinished or of another format.
    """
    path = folder / SUMMARY_FILE
    try:
        summary = json.loads(path.read_text(encoding='utf-8'))
        form, complete = summary['format'], 'files' in summary
    except FileNotFoundError:
        raise KoviltError(
            f'{folder}: no {SUMMARY_FILE}, so no prepared data; python tools/data/prepare.py CONFIG OUT makes it'
        ) from None
    except OSError as error:
        raise KoviltError(f'{path}: cannot be read ({error.strerror})') from error
    except (ValueError, KeyError, TypeError):
        raise KoviltError(f'{path}: damaged; {_AGAIN}') from None
    if form != FORMAT:
        raise KoviltError(f'{path}: format {form}, this kovilt reads {FORMAT}; prepare again')
    if not complete:
        raise KoviltError(f'{folder}: not prepared to the end; give the same command again, it goes on where it was')
    return summary


def verify_prepared(folder: str | Path) -> tuple[int, int]:
    """Read every file and compare it with its SHA-256; returns how many files and bytes that were.

    Opening looks at sizes and at the shards' first bytes only: reading all takes minutes where a set is large.

    Raises:
        KoviltError: a file is missing or differs.
    """
    folder = Path(folder)
    files = read_summary(folder)['files']
    _check_sizes(folder, files, files)
    for name, file in files.items():
        if file_digest(folder / name) != file['sha256']:
            raise KoviltError(f'{folder / name}: damaged, its content is not what was prepared; {_AGAIN}')
    return len(files), sum(file['size'] for file in files.values())


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_sizes(folder: Path, files: dict[str, dict[str, Any]], names: Iterable[str]) -> None:
    for name in names:
        path, size = folder / name, files[name]['size']
        try:
            found = path.stat().st_size
        except OSError as error:
            raise KoviltError(f'{path}: missing or unreadable ({error.strerror}); {_AGAIN}') from None
        if found != size:
            raise KoviltError(f'{path}: {found:,} bytes, but {size:,} when it was prepared; {_AGAIN}')


class PreparedImage(NamedTuple):
    """An image of a PreparedImages; LoadPrepared asks it for its patches."""

    images: PreparedImages
    number: int

    def __str__(self) -> str:
        return self.images.name(self.number)

    def read_patches(self) -> tuple[np.ndarray, tuple[int, int]]:
        """As `PreparedImages.read`."""
        return self.images.read(self.number)


class PreparedImages:
    """The images of a prepared split by number, as ImageStore gives those of files.

    Args:
        places: where the images lay when they were prepared; they are called by that name.
        folder: of the shards.
        split: of `prepared.json`.
        grids: int32 (images, 2).
        broken: number -> why it could not be read.

    Raises:
        KoviltError: a shard is another split's.
    """

    def __init__(
        self, places: ImageStore, folder: Path, split: dict[str, Any], grids: np.ndarray, broken: dict[int, str]
    ) -> None:
        self._places, self._folder, self._grids, self._broken = places, folder, grids, broken
        self._width, self._per_shard = split['patch_width'], split['images_per_shard']
        ends = np.cumsum(grids.prod(axis=1, dtype=np.int64))
        starts = np.concatenate([[0], ends[:-1]])
        first = np.arange(len(starts)) // self._per_shard * self._per_shard  # each image's shard begins with this one
        self._starts = starts - starts[first]  # int64 (images,): patches before it in its shard
        self._shards: dict[int, np.ndarray] = {}
        for number in range(split['shards']):
            path = folder / shard_file(number)
            with open(path, 'rb') as file:
                if file.read(HEADER_BYTES) != shard_header(split['identity'], number):
                    raise KoviltError(f'{path}: not a shard of these images; {_AGAIN}')

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> PreparedImage | None:
        return None if self._places.is_absent(number) else PreparedImage(self, number)

    def name(self, number: int) -> str:
        return self._places.name(number)

    def take(self, numbers: Iterable[int]) -> ImageStore:
        """As `ImageStore.take`: where those images lay."""
        return self._places.take(numbers)

    def read(self, number: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Patches uint8 (P, 3*p*p), a view into the file, and grid.

        Raises:
            KoviltError: it could not be read when the data was prepared.
        """
        if number in self._broken:
            raise KoviltError(f'{self._broken[number]} (found when {self._folder.parent} was prepared)')
        rows, columns = self._grids[number].tolist()
        start = self._starts[number]
        return self._shard(number // self._per_shard)[start : start + rows * columns], (rows, columns)

    def _shard(self, number: int) -> np.ndarray:
        if number not in self._shards:
            path = self._folder / shard_file(number)
            try:
                content = np.memmap(path, dtype=np.uint8, mode='r', offset=HEADER_BYTES)
            except (OSError, ValueError) as error:
                raise KoviltError(f'{path}: cannot be read ({error}); {_AGAIN}') from None
            self._shards[number] = content.view(np.ndarray).reshape(-1, self._width)  # plain views are cut faster
        return self._shards[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_shards': {}}  # a map would travel to a spawned worker as all its bytes


class PreparedPairs(PairDataset):
    """What tools/data/prepare.py has made of any reader: the same rows in the same order, so the same batches.

    With LoadPrepared first in the image pipeline images come from the shards; with LoadImage first they are read
    where they lay. Sizes of files and the first bytes of shards are looked at here, contents by `verify_prepared`.
    """

    HOW_TO_GET = 'python tools/data/prepare.py CONFIG OUT makes prepared data'

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        raise TypeError('prepared rows are mapped, not read')

    def _read(self) -> None:
        summary = read_summary(self.data_root)
        if self.split not in summary['splits']:
            known = ', '.join(map(repr, summary['splits']))
            raise KoviltError(f'split={self.split!r}: {self.data_root} was prepared with {known}')
        split = summary['splits'][self.split]
        if self.TEXT not in split['columns']:
            kind = 'PreparedVQA' if QuestionDataset.TEXT in split['columns'] else 'PreparedCaptions'
            raise KoviltError(f'{self.data_root}: no column {self.TEXT!r}; type={kind!r} reads this data')
        folder, files = self.data_root / self.split, summary['files']
        own = [name for name in files if name.startswith(f'{self.split}/') and name.endswith('.npy')]
        _check_sizes(self.data_root, files, own)
        arrays = {Path(name).stem: _map_array(self.data_root / name) for name in own}
        table = PairTable.from_arrays(arrays, split['columns'])
        self._columns, self._images, self._places = table.columns, table.row_images, table.places
        self._image_ids = array('q', table.image_ids.tobytes())
        self._absent = array('i', table.places.absent())
        self.left_out.update(split['left_out'])
        if any(isinstance(step, LoadPrepared) for step in self.image_pipeline):
            if not split['shards']:
                raise KoviltError(
                    f'{self.data_root}: prepared with --no-images; instead of LoadPrepared give LoadImage, '
                    'ResizeViLT and Patchify, or prepare it again'
                )
            shards = [f'{self.split}/{shard_file(number)}' for number in range(split['shards'])]
            _check_sizes(self.data_root, files, [*shards, f'{self.split}/{BROKEN_FILE}'])
            broken = _read_broken(folder / BROKEN_FILE)
            self._places = PreparedImages(table.places, folder, split, arrays['grids'], broken)


def _map_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False).view(np.ndarray)
    except ValueError as error:
        raise KoviltError(f'{path}: damaged ({error}); {_AGAIN}') from None


def _read_broken(path: Path) -> dict[int, str]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
        return {row['number']: row['reason'] for row in rows}
    except (ValueError, KeyError, TypeError):
        raise KoviltError(f'{path}: damaged; {_AGAIN}') from None


@DATASETS.register_module()
class PreparedCaptions(PreparedPairs):
    """Prepared captions; arguments as in PairDataset, `data_root` being the prepared folder."""

    COLUMNS = {'text': TextColumn}
    TEXT = 'text'


@DATASETS.register_module()
class PreparedVQA(PreparedPairs, QuestionDataset):
    """Prepared questions; arguments as in QuestionDataset, `data_root` being the prepared folder.

    Give `answers` the path of the folder's answers.json: a vocabulary built here would be that of the prepared rows.
    """
