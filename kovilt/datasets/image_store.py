"""Finding image files in folders, zips and tars, and reading them by number.

These are listed once; only workers read the images. Names are compared after `normalize_korean`, because
some zips and file systems hold decomposed Hangul.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from kovilt.datasets.base64_files import BASE64, Base64Image
from kovilt.datasets.folders import Folder
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.members import Member
from kovilt.datasets.table import CATEGORY, STRING, Table, TableBuilder, take_rows
from kovilt.datasets.table_files import TABLE_CELL, TableCell
from kovilt.datasets.tar_files import TAR, TarMember, tar_members
from kovilt.datasets.zip_files import ZipMember, zip_members
from kovilt.errors import KoviltError
from kovilt.files import read_bytes

# by `method`; all others lie in zips
_MEMBERS: dict[int, type[Member]] = {TAR: TarMember, TABLE_CELL: TableCell, BASE64: Base64Image}
ARCHIVES = ('.zip', '.tar')  # that may hold images
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff')


def read_image_file(place: Path | Member) -> bytes:
    """The bytes of an image file. Raises KoviltError when it is missing, cannot be read or is too large."""
    return read_bytes(place, 'image') if isinstance(place, Path) else place.read_bytes()


def _size_and_checksum(place: Path | Member | None) -> tuple[int, int] | None:
    """Size and CRC-32 of an image file; a zip states both. None if it cannot be read."""
    if isinstance(place, ZipMember):
        return place.content_size, place.checksum
    try:
        content = b'' if place is None else read_image_file(place)
    except KoviltError:
        return None
    return len(content), zlib.crc32(content)


class ImageStore:
    """The locations of images, by number: a `Path`, a `Member`, or None for an image known to be absent.

    Images are appended first; from `freeze` on they can be read.

    Attributes:
        table: once frozen, a row for each image: `image_id`; `container`, the folder or zip, '' for an absent image;
            `name` within it; the other values of a `Member`, with start = -1 for a file and -2 for an image that
            is absent even from the labels.
    """

    COLUMNS = {
        'image_id': pa.int64(),
        'container': CATEGORY,
        'name': STRING,
        'start': pa.int64(),
        'size': pa.int64(),
        'content_size': pa.int64(),
        'method': pa.int16(),
        'checksum': pa.uint32(),
    }

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or {}
        if table is None:
            self._builder = TableBuilder(self.COLUMNS)

    def append(self, place: Path | Member | None, name: str, image_id: int = 0, *, listed: bool = True) -> None:
        """Add an image; `name` identifies an absent one, a present one is identified by its path."""
        if not isinstance(place, Member):
            container, name = ('', name) if place is None else os.path.split(place)
            place = Member(container, name, start=-1 if listed else -2, size=0, content_size=0, method=0, checksum=0)
        self._builder.append({'image_id': image_id, **place._asdict()})

    def freeze(self) -> ImageStore:
        """Make the table; nothing can be appended afterwards. Returns itself."""
        if not self.table:
            self.table = self._builder.finish()
            del self._builder
        return self

    def take(self, numbers: np.ndarray) -> ImageStore:
        """A store of some of the images, int (n,), in this order."""
        return ImageStore(take_rows(self.table, numbers))

    def image_id(self, number: int) -> int:
        """One of `image_ids`."""
        return self.table['image_id'][number].as_py()

    @property
    def image_ids(self) -> np.ndarray:
        """int64 (images,): the id of each image: a hash of its source and id in the data set."""
        return self.table['image_id'].to_numpy()

    def is_absent(self, number: int) -> bool:
        return not self.table['container'][number].as_py()

    def absent(self) -> np.ndarray:
        """int (n,): the numbers of the images that are known to be absent."""
        containers = self.table['container']
        is_absent = np.array([not container for container in containers.dictionary.to_pylist()], dtype=bool)
        return np.flatnonzero(is_absent[containers.indices])

    def unlisted(self) -> np.ndarray:
        """int (n,): the numbers of those absent images that not even the labels list."""
        return np.flatnonzero(self.table['start'].to_numpy() == -2)

    def digest(self, numbers: np.ndarray) -> str:
        """A digest of the contents of some images, int (n,); the same in a folder, in a zip and on another disk."""
        with ThreadPoolExecutor(8) as pool:  # a network disk answers several at once
            contents = list(pool.map(_size_and_checksum, (self[number] for number in numbers.tolist())))
        return hashlib.blake2b(repr(contents).encode(), digest_size=8).hexdigest()

    def check_prepared(self) -> None:
        """Raise KoviltError unless LoadPrepared can read these images."""
        raise KoviltError(
            'image_pipeline: LoadPrepared reads prepared images, and these are files; instead of it give LoadImage, '
            'ResizeViLT and Patchify, or prepare them: kovilt prepare CONFIG OUT'
        )

    def __len__(self) -> int:
        return len(self.table['name']) if self.table else len(self._builder)

    def __getitem__(self, number: int) -> Path | Member | None:
        place = Member(*(self.table[column][number].as_py() for column in Member._fields))
        if not place.container:
            return None
        return _MEMBERS.get(place.method, ZipMember)(*place) if place.start >= 0 else Path(place.container, place.name)

    def name(self, number: int) -> str:
        """The path of an image, or the name of an absent one."""
        return os.path.join(self.table['container'][number].as_py(), self.table['name'][number].as_py())


class ImageIndex:
    """Images found below a root, by group (a subset of the data set), category (their folder) and file name."""

    def __init__(self) -> None:
        self._store = ImageStore()
        self._numbers: dict[str, dict[str, int]] = {}  # group -> '<category>/<file>' -> number
        self._by_file: dict[str, dict[str, int]] = {}  # group -> '<file>' -> number, -1 when several have the name

    def __len__(self) -> int:
        return len(self._store)

    @property
    def groups(self) -> list[str]:
        return list(self._numbers)

    def add(self, group: str, category: str, place: Path | Member) -> None:
        """Add an image; of two with the same group, category and file name the first counts."""
        key = f'{category}/{normalize_korean(os.path.basename(place.name))}'
        numbers = self._numbers.setdefault(group, {})
        if numbers.setdefault(key, len(self._store)) == len(self._store):
            self._store.append(place, '')

    def __getitem__(self, number: int | None) -> Path | Member | None:
        """Where an image lies, by the result of `at` or `find`; None for None. Nothing can be added afterwards."""
        return None if number is None else self._store.freeze()[number]

    def at(self, group: str, category: str, file: str) -> int | None:
        """The number of exactly this image, None if there is none; names must be normalized."""
        return self._numbers.get(group, {}).get(f'{category}/{file}')

    def find(self, groups: list[str], category: str, file: str) -> int | None:
        """The number of the image `<category>/<file>` in one of the groups, else of the only `<file>` in one."""
        category, file = normalize_korean(category), normalize_korean(file)
        for group in groups:
            number = self.at(group, category, file)
            if number is not None:
                return number
        for group in groups:
            number = self._files_of(group).get(file, -1)
            if number >= 0:
                return number
        return None

    def _files_of(self, group: str) -> dict[str, int]:
        if group not in self._by_file:
            files = self._by_file[group] = {}
            for key, number in self._numbers.get(group, {}).items():
                file = key.rpartition('/')[2]
                files[file] = -1 if file in files else number
        return self._by_file[group]


def folder_images(folder: Folder) -> Iterator[tuple[tuple[str, ...], Path | Member]]:
    """List the images in a folder and in its zips and tars, each with the names of its folders.

    A zip or tar counts as a folder.
    """
    for name in folder.files:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES:
            yield folder.parts, Path(folder.path, name)
        elif suffix.lower() in ARCHIVES:
            for inside, member in archive_images(os.path.join(folder.path, name)):
                yield (*folder.parts, normalize_korean(stem), *inside), member


def archive_images(path: str) -> Iterator[tuple[tuple[str, ...], Member]]:
    """List the images in a zip or tar: (normalized folders inside it, member)."""
    members = zip_members if path.lower().endswith('.zip') else tar_members
    yield from members(path, IMAGE_SUFFIXES, 'image')


def index_by_folder(folders: Iterable[Folder]) -> ImageIndex:
    """Index all images of the folders, their zips and tars in group ''; the category is the name of the folder."""
    images = ImageIndex()
    for folder in folders:
        for parts, place in folder_images(folder):
            images.add('', parts[-1] if parts else '', place)
    return images
