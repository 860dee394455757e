"""Prepared data: the rows of a reader, and their images resized and cut into patches, in memory-mapped files.

    prepared.json                  what the data was made from; size and SHA-256 of every file, once all are written
    answers.json                   the answer vocabulary of the training split, if it has one
    <split>/rows.arrow             the reader's columns, and `image`: the number of each row's image
    <split>/images.arrow           the columns of ImageStore, and `grid`, if images are prepared: its rows and columns
                                   of patches; 0, 0 = not readable
    <split>/broken.jsonl           the images that could not be read, with the reason
    <split>/shard-00000.patches    a header of 64 bytes, then the patches of `images_per_shard` images, uint8, one image
                                   after the other; the header tells the shards of one split from those of others

Opening copies nothing: processes and workers share the pages of the files in the system's cache.
`kovilt prepare` writes prepared data (see `preparing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.table import STRING, Table, map_table
from kovilt.datasets.transforms.patches import LoadPrepared
from kovilt.errors import KoviltError
from kovilt.files import file_sha256, read_json, read_json_lines
from kovilt.registry import DATASETS

FORMAT = 3  # increased when this version cannot use older files; 3: rows and images are Arrow tables
SUMMARY_FILE, ANSWER_FILE = 'prepared.json', 'answers.json'
ROWS_FILE, IMAGES_FILE, BROKEN_FILE = 'rows.arrow', 'images.arrow', 'broken.jsonl'  # of each split
HEADER_BYTES = 64
_REMEDY = 'copy it again, or prepare again: kovilt prepare CONFIG OUT --overwrite'


def shard_file(number: int) -> str:
    return f'shard-{number:05d}.patches'


def shard_header(identity: str, number: int) -> bytes:
    """The first bytes of a shard. `identity` is a digest of the rows, images and image pipeline of its split."""
    return f'kovilt {identity} {number}'.encode().ljust(HEADER_BYTES)


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of `prepared.json`.

    Raises:
        KoviltError: there is none, or it is damaged, unfinished or of another format.
    """
    path = folder / SUMMARY_FILE
    if not path.exists():
        raise KoviltError(f'{folder}: not prepared data, it has no {SUMMARY_FILE}; kovilt prepare CONFIG OUT makes it')
    try:
        summary = read_json(path)
    except KoviltError as error:
        raise KoviltError(f'{error}; {_REMEDY}') from error
    if 'format' not in summary:
        raise KoviltError(f'{path}: damaged; {_REMEDY}')
    if summary['format'] != FORMAT:
        raise KoviltError(f'{path}: format {summary["format"]}, this kovilt reads {FORMAT}; prepare again')
    if 'files' not in summary:
        raise KoviltError(f'{folder}: preparation is not finished; repeat the same command, it continues where it was')
    return summary


def verify_prepared(folder: str | Path) -> tuple[int, int]:
    """Compare every file with its SHA-256; returns the number of files and of bytes.

    This reads all data, which takes minutes for a large set; opening only compares sizes and the headers of shards.

    Raises:
        KoviltError: a file is missing or differs.
    """
    folder = Path(folder)
    files = read_summary(folder)['files']
    _check_sizes(folder, files, files)
    for name, file in files.items():
        if file_sha256(folder / name, 'prepared') != file['sha256']:
            raise KoviltError(f'{folder / name}: damaged, its content is not what was prepared; {_REMEDY}')
    return len(files), sum(file['size'] for file in files.values())


def _check_sizes(folder: Path, files: dict[str, dict[str, Any]], names: Iterable[str]) -> None:
    for name in names:
        path, size = folder / name, files[name]['size']
        try:
            found = path.stat().st_size
        except OSError as error:
            raise KoviltError(f'{path}: missing or unreadable ({error.strerror}); {_REMEDY}') from None
        if found != size:
            raise KoviltError(f'{path}: {found:,} bytes, but {size:,} when it was prepared; {_REMEDY}')


class PreparedPatches:
    """The patches of the images of a prepared split, by image number.

    Args:
        folder: of the shards.
        split: the split's part of `prepared.json`.
        grids: int32 (images, 2).
        broken: image number -> why it could not be read.

    Raises:
        KoviltError: a shard belongs to another split.
    """

    def __init__(self, folder: Path, split: dict[str, Any], grids: np.ndarray, broken: dict[int, str]) -> None:
        self._folder, self._grids, self._broken = folder, grids, broken
        self._width, self._per_shard = split['patch_width'], split['images_per_shard']
        ends = np.cumsum(grids.prod(axis=1, dtype=np.int64))
        starts = np.concatenate([[0], ends[:-1]])
        first = np.arange(len(starts)) // self._per_shard * self._per_shard  # the first image of each image's shard
        self._starts = starts - starts[first]  # int64 (images,): number of patches before the image in its shard
        self._shards: dict[int, np.ndarray] = {}
        for number in range(split['shards']):
            path = folder / shard_file(number)
            with open(path, 'rb') as file:
                if file.read(HEADER_BYTES) != shard_header(split['identity'], number):
                    raise KoviltError(f'{path}: not a shard of these images; {_REMEDY}')

    def read(self, number: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Patches uint8 (P, 3*p*p), a view of the mapped file, and the grid of an image.

        Raises:
            KoviltError: the image could not be read when the data was prepared.
        """
        if number in self._broken:
            raise KoviltError(f'{self._broken[number]} (found when {self._folder.parent} was prepared)')
        rows, columns = self._grids[number].tolist()
        start = self._starts[number]
        return self._map_shard(number // self._per_shard)[start : start + rows * columns], (rows, columns)

    def _map_shard(self, number: int) -> np.ndarray:
        if number not in self._shards:
            path = self._folder / shard_file(number)
            try:
                content = np.memmap(path, dtype=np.uint8, mode='r', offset=HEADER_BYTES)
            except (OSError, ValueError) as error:
                raise KoviltError(f'{path}: cannot be read ({error}); {_REMEDY}') from None
            # Slices of a plain array are faster than those of a memmap.
            self._shards[number] = content.view(np.ndarray).reshape(-1, self._width)
        return self._shards[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_shards': {}}  # pickling a mapped file would copy all its bytes


class PreparedImage(NamedTuple):
    """An image of a prepared split, for LoadPrepared; its string form is the path of the original image."""

    patches: PreparedPatches
    number: int
    name: str

    def __str__(self) -> str:
        return self.name

    def read_patches(self) -> tuple[np.ndarray, tuple[int, int]]:
        """As `PreparedPatches.read`."""
        return self.patches.read(self.number)


class PreparedPairs(PairDataset):
    """The rows that kovilt prepare read with any reader, in the same order, so that batches are the same.

    If the image pipeline starts with LoadPrepared, images come from the shards; if it starts with LoadImage, they are
    read from where they lay when the data was prepared. Opening checks the sizes of files and the headers of shards;
    `verify_prepared` checks the contents.
    """

    HOW_TO_GET = 'kovilt prepare CONFIG OUT makes prepared data'

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        raise TypeError('prepared rows are mapped, not read')

    def read_rows(self) -> None:
        """Map the tables of the split."""
        summary = read_summary(self.data_root)
        if self.split not in summary['splits']:
            known = ', '.join(map(repr, summary['splits']))
            raise KoviltError(f'split={self.split!r}: {self.data_root} was prepared with {known}')
        split = summary['splits'][self.split]
        folder, files = self.data_root / self.split, summary['files']
        _check_sizes(self.data_root, files, [f'{self.split}/{name}' for name in (ROWS_FILE, IMAGES_FILE)])
        rows, images = _map_table(folder / ROWS_FILE), _map_table(folder / IMAGES_FILE)
        if self.TEXT not in rows:
            kind = 'PreparedVQA' if QuestionDataset.TEXT in rows else 'PreparedCaptions'
            raise KoviltError(f'{self.data_root}: no column {self.TEXT!r}; type={kind!r} reads this data')
        self._set_table(rows, ImageStore(images))
        self.left_out.update(split['left_out'])
        self._patches: PreparedPatches | None = None
        if any(isinstance(step, LoadPrepared) for step in self.image_pipeline):
            if not split['shards']:
                raise KoviltError(
                    f'{self.data_root}: prepared with --no-images; instead of LoadPrepared give LoadImage, '
                    'ResizeViLT and Patchify, or prepare it again'
                )
            shards = [f'{self.split}/{shard_file(number)}' for number in range(split['shards'])]
            _check_sizes(self.data_root, files, [*shards, f'{self.split}/{BROKEN_FILE}'])
            broken = _read_broken(folder / BROKEN_FILE)
            grids = images['grid'].flatten().to_numpy().reshape(-1, 2)
            self._patches = PreparedPatches(folder, split, grids, broken)

    def _image_source(self, image: int) -> Any:
        if self._patches is None or self.image_store.is_absent(image):
            return super()._image_source(image)
        return PreparedImage(self._patches, image, self.image_store.name(image))


def _map_table(path: Path) -> Table:
    try:
        return map_table(path)
    except KoviltError as error:
        raise KoviltError(f'{error}; {_REMEDY}') from error


def _read_broken(path: Path) -> dict[int, str]:
    try:
        return {row['number']: row['reason'] for _, row in read_json_lines(path, 'table')}
    except (KoviltError, KeyError, TypeError):
        raise KoviltError(f'{path}: damaged; {_REMEDY}') from None


@DATASETS.register_module()
class PreparedCaptions(PreparedPairs):
    """Prepared captions. Arguments as in PairDataset; `data_root` is the prepared folder."""

    COLUMNS = {'text': STRING}
    TEXT = 'text'


@DATASETS.register_module()
class PreparedVQA(PreparedPairs, QuestionDataset):
    """Prepared questions. Arguments as in QuestionDataset; `data_root` is the prepared folder.

    `answers` should be the path of the folder's answers.json: a vocabulary built here would only count the prepared
    rows.
    """
