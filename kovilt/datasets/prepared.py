"""Prepared data: the rows of a reader, and their images resized and cut into patches, in memory-mapped files.

    prepared.json                  what the data was made from; size and SHA-256 of every file, once all are written
    answers.json                   the answer vocabulary of the training split, if it has one
    <split>/rows.arrow             the reader's columns, and `image`: the number of each row's image
    <split>/images.arrow           the columns of ImageStore and, if images are prepared, `grid`: its rows and columns
                                   of patches, 0, 0 = not readable; `patches_xxh3`: their checksum
    <split>/broken.jsonl           the images that could not be read, with the reason
    <split>/shard-00000.patches    a header of 64 bytes, then the patches of `images_per_shard` images, uint8, one image
                                   after the other; the header tells the shards of one split from those of others

Opening copies nothing: processes and workers share the pages of the files in the system's cache.
`kovilt prepare` writes prepared data (see `preparing`).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from mmengine.logging import print_log

from kovilt.datasets.image_store import ImageStore, read_image_file
from kovilt.datasets.members import Member
from kovilt.datasets.prepared_check import CHECKSUM, REMEDY, check_patches, check_summary, check_tables
from kovilt.datasets.readers.base import CaptionReader, QuestionReader, Reader
from kovilt.datasets.rows import FoundImage, ReadReport, RowSet
from kovilt.datasets.table import Table, map_table, named_type
from kovilt.errors import KoviltError
from kovilt.files import check_file, file_sha256, open_file, read_json, read_json_lines
from kovilt.registry import READERS

FORMAT = 3  # increased when this version cannot use older files; 3: rows and images are Arrow tables
SUMMARY_FILE, ANSWER_FILE = 'prepared.json', 'answers.json'
ROWS_FILE, IMAGES_FILE, BROKEN_FILE = 'rows.arrow', 'images.arrow', 'broken.jsonl'  # of each split
HEADER_BYTES = 64


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
        raise KoviltError(f'{error}; {REMEDY}') from error
    if 'format' not in summary:
        raise KoviltError(f'{path}: damaged; {REMEDY}')
    if summary['format'] != FORMAT:
        raise KoviltError(f'{path}: format {summary["format"]}, this kovilt reads {FORMAT}; prepare again')
    if 'files' not in summary:
        raise KoviltError(f'{folder}: preparation is not finished; repeat the same command, it continues where it was')
    if summary.get('digest', digest_summary(summary)) != digest_summary(summary):
        raise KoviltError(f'{path}: damaged, its content is not what was prepared; {REMEDY}')
    check_summary(summary, path)
    return summary


def digest_summary(summary: Mapping[str, Any]) -> str:
    """The value of `digest` in `prepared.json`: SHA-256 of all its other values."""
    content = {key: value for key, value in summary.items() if key != 'digest'}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify_prepared(folder: str | Path) -> tuple[int, int]:
    """Compare every file with its SHA-256; returns the number of files and of bytes.

    This reads all data, which takes minutes for a large set; opening does not compare the patches.

    Raises:
        KoviltError: a file is missing or differs.
    """
    folder = Path(folder)
    files = read_summary(folder)['files']
    _check_sizes(folder, files, files)
    _check_digests(folder, files, files)
    return len(files), sum(file['size'] for file in files.values())


def _check_sizes(folder: Path, files: dict[str, dict[str, Any]], names: Iterable[str]) -> None:
    for name in names:
        path = folder / name
        if name not in files:
            raise KoviltError(f'{folder / SUMMARY_FILE}: does not list {name}; {REMEDY}')
        try:
            check_file(path, 'prepared')
        except KoviltError as error:
            raise KoviltError(f'{error}; {REMEDY}') from None
        found, size = path.stat().st_size, files[name]['size']
        if found != size:
            raise KoviltError(f'{path}: {found:,} bytes, but {size:,} when it was prepared; {REMEDY}')


def _check_digests(folder: Path, files: dict[str, dict[str, Any]], names: Iterable[str]) -> None:
    for name in names:
        if file_sha256(folder / name, 'prepared') != files[name]['sha256']:
            raise KoviltError(f'{folder / name}: damaged, its content is not what was prepared; {REMEDY}')


class PreparedPatches:
    """The patches of the images of a prepared split, by image number.

    Args:
        folder: of the shards.
        split: the split's part of `prepared.json`.
        grids: int32 (images, 2).
        broken: image number -> why it could not be read.
        checksums: uint64 (images,), XXH3 of the patches of each image; None = none were stored.
        name_of: gives the name of an image, for messages.
    """

    def __init__(
        self,
        folder: Path,
        split: dict[str, Any],
        grids: np.ndarray,
        broken: dict[int, str],
        checksums: np.ndarray | None,
        name_of: Callable[[int], str],
    ) -> None:
        self._folder, self._grids, self._broken, self._checksums = folder, grids, broken, checksums
        self._name_of = name_of
        self._width, self._per_shard = split['patch_width'], split['images_per_shard']
        ends = np.cumsum(grids.prod(axis=1, dtype=np.int64))
        starts = np.concatenate([[0], ends[:-1]])
        first = np.arange(len(starts)) // self._per_shard * self._per_shard  # the first image of each image's shard
        self._starts = starts - starts[first]  # int64 (images,): number of patches before the image in its shard
        self._shards: dict[int, np.ndarray] = {}

    def read(self, number: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Patches uint8 (P, 3 * p * p), a view of the mapped file, and the grid of an image.

        Raises:
            KoviltError: the image could not be read when the data was prepared, or its patches have changed since.
        """
        if number in self._broken:
            raise KoviltError(f'{self._broken[number]} (found when {self._folder.parent} was prepared)')
        rows, columns = self._grids[number].tolist()
        start, shard = self._starts[number], number // self._per_shard
        patches = self._map_shard(shard)[start : start + rows * columns]
        if self._checksums is not None and xxhash.xxh3_64_intdigest(patches.data) != self._checksums[number]:
            raise KoviltError(
                f'{self._folder / shard_file(shard)}: the patches of {self._name_of(number)} are damaged; {REMEDY}'
            )
        return patches, (rows, columns)

    def _map_shard(self, number: int) -> np.ndarray:
        if number not in self._shards:
            path = self._folder / shard_file(number)
            try:
                content = np.memmap(path, dtype=np.uint8, mode='r', offset=HEADER_BYTES)
            except (OSError, ValueError) as error:
                raise KoviltError(f'{path}: cannot be read ({error}); {REMEDY}') from None
            # Slices of a plain array are faster than those of a memmap.
            self._shards[number] = content.view(np.ndarray).reshape(-1, self._width)
        return self._shards[number]


class PreparedImage(NamedTuple):
    """An image of a prepared split. LoadPrepared reads its patches, LoadImage the original file if it is still there.

    Like a Path it has `read_bytes`, `name` and a string form: those of the original.
    """

    original: Path | Member
    images: PreparedImages
    number: int

    def __str__(self) -> str:
        return str(self.original)

    @property
    def name(self) -> str:
        return self.original.name

    def read_bytes(self) -> bytes:
        return read_image_file(self.original)

    def read_patches(self) -> tuple[np.ndarray, tuple[int, int]]:
        """As `PreparedPatches.read`."""
        return self.images.patches.read(self.number)


class PreparedImages(ImageStore):
    """The images of a prepared split.

    Args:
        folder: of the split.
        table: of its images.
        split: the split's part of `prepared.json`.
        files: all files of `prepared.json`.
    """

    def __init__(self, folder: Path, table: Table, split: dict[str, Any], files: dict[str, dict[str, Any]]) -> None:
        super().__init__(table)
        self._folder, self._split, self._files = folder, split, files

    def __getitem__(self, number: int) -> Any:
        original = self.original(number)
        return original if original is None or not self._split['shards'] else PreparedImage(original, self, number)

    def original(self, number: int) -> Path | Member | None:
        """Where an image lay when the data was prepared."""
        return super().__getitem__(number)

    def digest(self, numbers: np.ndarray) -> str:
        """As that of ImageStore; of the prepared patches of all images, if there are any."""
        shards = [self._files[f'{self._folder.name}/{shard_file(n)}']['sha256'] for n in range(self._split['shards'])]
        return hashlib.blake2b(repr(shards).encode(), digest_size=8).hexdigest() if shards else super().digest(numbers)

    @functools.cached_property
    def patches(self) -> PreparedPatches:
        """The patches of the images."""
        checksums = self.table[CHECKSUM].to_numpy() if CHECKSUM in self.table else None
        broken = _read_broken(self._folder / BROKEN_FILE)
        return PreparedPatches(self._folder, self._split, self._grids, broken, checksums, self.name)

    @property
    def _grids(self) -> np.ndarray:
        """int32 (images, 2)."""
        return self.table['grid'].flatten().to_numpy().reshape(-1, 2)

    def check_prepared(self) -> None:
        """Raise KoviltError when there are no patches, or their files do not fit the images."""
        if not self._split['shards']:
            raise KoviltError(
                f'{self._folder.parent}: prepared with --no-images; instead of LoadPrepared give LoadImage, '
                'ResizeViLT and Patchify, or prepare it again'
            )
        shards = [shard_file(number) for number in range(self._split['shards'])]
        names = [f'{self._folder.name}/{name}' for name in (*shards, BROKEN_FILE)]
        _check_sizes(self._folder.parent, self._files, names)
        _check_digests(self._folder.parent, self._files, names[-1:])
        if CHECKSUM not in self.table:
            print_log(
                f'{self._folder}: prepared without checksums of its images; prepare it again to add them', 'current'
            )
        for number, shard in enumerate(shards):
            with open_file(self._folder / shard, 'prepared') as file:
                if file.read(HEADER_BYTES) != shard_header(self._split['identity'], number):
                    raise KoviltError(f'{self._folder / shard}: not a shard of these images; {REMEDY}')
        shard_bytes = [self._files[f'{self._folder.name}/{shard}']['size'] - HEADER_BYTES for shard in shards]
        broken = _read_broken(self._folder / BROKEN_FILE)
        check_patches(self._grids, self._split, shard_bytes, broken, self.absent(), self._folder / IMAGES_FILE)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != 'patches'}  # a worker maps them itself


@READERS.register_module()
class PreparedReader(Reader):
    """Maps the rows that kovilt prepare read with any reader, in the same order, so that batches are the same.

    If the image pipeline starts with LoadPrepared, images come from the shards; if it starts with LoadImage, they are
    read from where they lay when the data was prepared. Opening checks all but the patches. Those of an image are
    compared with their checksum when they are read; an image that fails is broken. `verify_prepared` reads all.

    For questions, the dataset's `answers` should be the path of the folder's answers.json: a vocabulary built from
    these rows would only count the prepared ones.
    """

    COLUMNS, TEXT = QuestionReader.COLUMNS, QuestionReader.TEXT  # until the rows are mapped
    HOW_TO_GET = 'kovilt prepare CONFIG OUT makes prepared data'

    def __init__(self, *, data_root: str, split: str) -> None:
        super().__init__(data_root=data_root, split=split)  # no cache: the rows are mapped anyway

    def read_rows(self) -> RowSet:
        summary = read_summary(self.data_root)
        if self.split not in summary['splits']:
            known = ', '.join(map(repr, summary['splits']))
            raise KoviltError(f'split={self.split!r}: {self.data_root} was prepared with {known}')
        split = summary['splits'][self.split]
        folder, files = self.data_root / self.split, summary['files']
        opened = [f'{self.split}/{ROWS_FILE}', f'{self.split}/{IMAGES_FILE}', *({ANSWER_FILE} & files.keys())]
        _check_sizes(self.data_root, files, opened)
        _check_digests(self.data_root, files, opened)
        rows, images = _map_table(folder / ROWS_FILE), _map_table(folder / IMAGES_FILE)
        check_tables(rows, images, split, folder, (ROWS_FILE, IMAGES_FILE))
        kind = QuestionReader if QuestionReader.TEXT in rows else CaptionReader
        self.TEXT = kind.TEXT
        self.COLUMNS = {name: named_type(column.type) for name, column in rows.items() if name != 'image'}
        return RowSet(self, rows, PreparedImages(folder, images, split, files), Counter(split['left_out']))

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        rows = self.read_rows()
        assert isinstance(rows.images, PreparedImages)
        for row, number in enumerate(rows.row_images.tolist()):
            images = rows.images
            image = FoundImage(images.original(number), str(images.image_id(number)), images.name(number))
            yield {**{name: column[row].as_py() for name, column in rows.columns.items()}, 'image': image}


def _map_table(path: Path) -> Table:
    try:
        return map_table(path)
    except KoviltError as error:
        raise KoviltError(f'{error}; {REMEDY}') from error


def _read_broken(path: Path) -> dict[int, str]:
    broken: dict[int, str] = {}
    for line, row in read_json_lines(path, 'table'):
        number, reason = row.get('number'), row.get('reason')
        if type(number) is not int or number < 0 or number in broken or not isinstance(reason, str):
            raise KoviltError(f'{path}, line {line}: damaged; {REMEDY}')
        broken[number] = reason
    return broken
