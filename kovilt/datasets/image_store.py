"""Finding image files in folders and zips, and reading them by number.

Folders and zips are listed once; only workers read the images. Names are compared after `normalize_korean`, because
some zips and file systems hold decomposed Hangul. An image inside a zip is stored as its offset and size, so that a
worker reads it without loading the zip's directory, which takes 150 MB for 200,000 images.
"""

from __future__ import annotations

import functools
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.table import CATEGORY, STRING, Table, TableBuilder, take_rows
from kovilt.errors import KoviltError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff')
_PART = re.compile(r'(?P<whole>.+\.(?:zip|json))\.part\d*', re.IGNORECASE)


class Folder(NamedTuple):
    """A listed folder: its path, the normalized names of the folders from the root to it, and its file names."""

    path: str
    parts: tuple[str, ...]
    files: list[str]


def list_folders(root: Path) -> Iterator[Folder]:
    """List `root` and every folder below it in a fixed order; links are followed, but no folder is listed twice.

    Raises:
        KoviltError: a download that is still split into parts (`X.zip.part0`, `X.zip.part1`, ...).
    """
    seen = set()
    for path, folders, files in os.walk(root, followlinks=True):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        files.sort()
        for name in files:
            part = _PART.fullmatch(name)
            if part and part['whole'] not in files:
                whole = os.path.join(path, part['whole'])
                raise KoviltError(
                    f'{os.path.join(path, name)}: a part of a download; join the parts first: '
                    f"ls -v '{whole}'.part* | xargs -d '\\n' cat > '{whole}'"
                )
        relative = os.path.relpath(path, root)
        parts = () if relative == os.curdir else tuple(normalize_korean(part) for part in relative.split(os.sep))
        yield Folder(path, parts, files)


def find_file(root: Path, name: str, folders: Iterable[Folder]) -> Path | None:
    """Find a file by its path (absolute or relative to `root`), or else the first file of that name in the folders."""
    path = root / os.path.expanduser(name)
    if path.is_file():
        return path
    wanted = normalize_korean(name)
    found = (Path(folder.path, file) for folder in folders for file in folder.files if normalize_korean(file) == wanted)
    return next(found, None)


def open_zip(path: str) -> zipfile.ZipFile:
    """Open a zip file. Raises KoviltError when it is not a complete zip."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise KoviltError(f'{path}: not a complete zip file ({error}); download it again') from None


def member_parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """The normalized parts of a member's path, with Hangul decoded correctly.

    Korean Windows writes names in CP949 (other systems in UTF-8) without setting the UTF-8 flag, and Python then
    decodes them as CP437.
    """
    name = member.filename
    if not member.flag_bits & 0x800 and not name.isascii():
        for encoding in ('utf-8', 'cp949'):
            try:
                name = name.encode('cp437').decode(encoding)
                break
            except UnicodeError:
                continue
    return tuple(normalize_korean(part) for part in name.split('/') if part)


class ZipMember(NamedTuple):
    """An image inside a zip. Like a Path it has `read_bytes`, `name` and a string form."""

    container: str
    name: str
    start: int  # offset in bytes of the member's header in the zip
    size: int  # bytes in the zip, compressed
    method: int  # compression: 0 stored, 8 deflated
    checksum: int  # CRC-32 of the content

    def __str__(self) -> str:
        return f'{self.container}/{self.name}'

    def read_bytes(self) -> bytes:
        """Read the image file. Raises KoviltError when the zip has changed or is damaged, OSError when it is gone."""
        file = _open_container(self.container).fileno()
        header = os.pread(file, 30, self.start)
        if len(header) < 30 or header[:4] != b'PK\x03\x04':
            raise KoviltError(f'{self}: not found where the zip listed it; the zip has changed or is damaged')
        name_size, extra_size = struct.unpack('<HH', header[26:30])
        data = os.pread(file, self.size, self.start + 30 + name_size + extra_size)
        if self.method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompress(data, wbits=-15)
            except zlib.error as error:
                raise KoviltError(f'{self}: damaged in the zip ({error}); download the zip again') from None
        if zlib.crc32(data) != self.checksum:
            raise KoviltError(f'{self}: damaged in the zip (wrong checksum); download the zip again')
        return data


@functools.lru_cache(maxsize=64)
def _open_container(path: str) -> BinaryIO:
    """Open a zip once per process. A handle inherited from the parent process is safe: pread uses no file position."""
    return open(path, 'rb')  # noqa: SIM115 - the cache keeps it open


class ImageStore:
    """The locations of images, by number: a `Path`, a `ZipMember`, or None for an image known to be absent.

    Images are appended first; from `freeze` on they can be read.

    Attributes:
        table: once frozen, a row for each image: `image_id`; `container`, the folder or zip, '' for an absent image;
            `name` within it; the other values of a `ZipMember`, with start = -1 for a file.
    """

    COLUMNS = {
        'image_id': pa.int64(),
        'container': CATEGORY,
        'name': STRING,
        'start': pa.int64(),
        'size': pa.int64(),
        'method': pa.int16(),
        'checksum': pa.uint32(),
    }

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or {}
        if table is None:
            self._builder = TableBuilder(self.COLUMNS)

    def append(self, place: Path | ZipMember | None, name: str, image_id: int = 0) -> None:
        """Add an image; `name` identifies an absent one, a present one is identified by its path."""
        container, start, size, method, checksum = '', -1, 0, 0, 0
        if isinstance(place, ZipMember):
            container, name, start, size, method, checksum = place
        elif place is not None:
            container, name = os.path.split(place)
        self._builder.append(
            {
                'image_id': image_id,
                'container': container,
                'name': name,
                'start': start,
                'size': size,
                'method': method,
                'checksum': checksum,
            }
        )

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

    def __len__(self) -> int:
        return len(self.table['name']) if self.table else len(self._builder)

    def __getitem__(self, number: int) -> Path | ZipMember | None:
        container, name, start = (self.table[column][number].as_py() for column in ('container', 'name', 'start'))
        if not container:
            return None
        if start < 0:
            return Path(container, name)
        size, method, checksum = (self.table[column][number].as_py() for column in ('size', 'method', 'checksum'))
        return ZipMember(container, name, start, size, method, checksum)

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

    def add(self, group: str, category: str, place: Path | ZipMember) -> None:
        """Add an image; of two with the same group, category and file name the first counts."""
        key = f'{category}/{normalize_korean(os.path.basename(place.name))}'
        numbers = self._numbers.setdefault(group, {})
        if numbers.setdefault(key, len(self._store)) == len(self._store):
            self._store.append(place, '')

    def __getitem__(self, number: int | None) -> Path | ZipMember | None:
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


def zip_images(path: str) -> Iterator[tuple[tuple[str, ...], ZipMember]]:
    """List the images of a zip as (normalized folders inside the zip, member).

    Raises:
        KoviltError: the zip is damaged, or an image is encrypted or compressed by another method than deflate.
    """
    with open_zip(path) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(IMAGE_SUFFIXES):
                continue
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise KoviltError(
                    f'{path}: {member.filename} is encrypted or compressed in an unsupported way; '
                    'extract the zip to a folder'
                )
            *folders, name = member_parts(member)
            yield (
                tuple(folders),
                ZipMember(
                    path,
                    '/'.join((*folders, name)),
                    member.header_offset,
                    member.compress_size,
                    member.compress_type,
                    member.CRC,
                ),
            )


def folder_images(folder: Folder) -> Iterator[tuple[tuple[str, ...], Path | ZipMember]]:
    """List the images in a folder and in its zips, each with the names of its folders; a zip counts as a folder."""
    for name in folder.files:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES:
            yield folder.parts, Path(folder.path, name)
        elif suffix.lower() == '.zip':
            for inside, member in zip_images(os.path.join(folder.path, name)):
                yield (*folder.parts, normalize_korean(stem), *inside), member


def index_by_folder(folders: Iterable[Folder]) -> ImageIndex:
    """Index all images of the folders and of their zips in group ''; the category is the name of the folder."""
    images = ImageIndex()
    for folder in folders:
        for parts, place in folder_images(folder):
            images.add('', parts[-1] if parts else '', place)
    return images
