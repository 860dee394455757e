"""Where the images lie: folders and zips are listed once, images are looked up by name and read only by workers.

Names are compared after `normalize_korean`, since some zips and file systems hold decomposed Hangul. An image inside a
zip is kept as its place in the file (offset, size), so that a worker reads it without loading the zip's directory: that
of a zip of 200,000 images would cost each worker 150 MB.
"""

from __future__ import annotations

import functools
import os
import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from kovilt.datasets.columns import Arrays, CategoryColumn, TextColumn, beneath, prefixed
from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff')
_PART = re.compile(r'(?P<whole>.+\.(?:zip|json))\.part\d*', re.IGNORECASE)


class Folder(NamedTuple):
    """A folder as listed once: its path, the normalised names of the folders that lead to it, its files' names."""

    path: str
    parts: tuple[str, ...]
    files: list[str]


def list_folders(root: Path) -> Iterator[Folder]:
    """Every folder beneath `root`, itself included, in a fixed order; links are followed, none twice.

    Raises:
        KoviltError: a download that still lies in pieces (`X.zip.part0`, `X.zip.part1`, ...).
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
            piece = _PART.fullmatch(name)
            if piece and piece['whole'] not in files:
                whole = os.path.join(path, piece['whole'])
                raise KoviltError(
                    f'{os.path.join(path, name)}: a piece of a download; join the pieces first: '
                    f"ls -v '{whole}'.part* | xargs -d '\\n' cat > '{whole}'"
                )
        relative = os.path.relpath(path, root)
        parts = () if relative == os.curdir else tuple(normalize_korean(part) for part in relative.split(os.sep))
        yield Folder(path, parts, files)


def find_file(root: Path, name: str, folders: Iterable[Folder]) -> Path | None:
    """`name` seen from `root`, an absolute path, or else the first file of that name in the folders beneath."""
    path = root / os.path.expanduser(name)
    if path.is_file():
        return path
    wanted = normalize_korean(name)
    found = (Path(folder.path, file) for folder in folders for file in folder.files if normalize_korean(file) == wanted)
    return next(found, None)


def open_zip(path: str) -> zipfile.ZipFile:
    """Raises KoviltError when the file is no complete zip."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise KoviltError(f'{path}: not a complete zip file ({error}); download it again') from None


def member_parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    """The normalised parts of a member's path, with Hangul mended.

    Korean Windows writes names in CP949 (others in UTF-8) without the flag that says so; Python then reads CP437.
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
    """An image inside a zip; has the two things that are asked of a path: `read_bytes` and a name."""

    container: str
    name: str
    start: int  # bytes from the beginning of the zip to the member's header
    size: int  # bytes it takes in the zip
    method: int  # as in the zip: 0 stored, 8 deflated
    checksum: int  # CRC-32 of the content

    def __str__(self) -> str:
        return f'{self.container}/{self.name}'

    def read_bytes(self) -> bytes:
        """Raises KoviltError when the zip has changed or is damaged, OSError when it is gone."""
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
    """Opened once per process. A handle inherited from the parent is safe to use: pread shares no file position."""
    return open(path, 'rb')  # noqa: SIM115 - the cache keeps it open


class ImageStore:
    """Images by number, in flat columns: each a `Path`, a `ZipMember`, or None for one known to be absent."""

    _NUMBERS = {'starts': 'q', 'sizes': 'q', 'methods': 'h', 'checksums': 'I'}

    def __init__(self) -> None:
        self._containers, self._names = CategoryColumn(), TextColumn()
        self._starts, self._sizes, self._methods, self._checksums = map(array, self._NUMBERS.values())

    def append(self, place: Path | ZipMember | None, name: str) -> None:
        """`name` is what an absent image is called; a present one is called by its path."""
        member = place if isinstance(place, ZipMember) else None
        if place is None:
            container = ''
        elif member:
            container, name = member.container, member.name
        else:
            container, name = os.path.split(place)
        self._containers.append(container)
        self._names.append(name)
        self._starts.append(member.start if member else -1)
        self._sizes.append(member.size if member else 0)
        self._methods.append(member.method if member else 0)
        self._checksums.append(member.checksum if member else 0)

    def freeze(self) -> ImageStore:
        self._containers.freeze()
        self._names.freeze()
        return self

    def take(self, numbers: Iterable[int]) -> ImageStore:
        """A frozen store of some of the images, in the order of `numbers`."""
        taken = ImageStore()
        for number in numbers:
            taken.append(self[number], self._names[number])
        return taken.freeze()

    def arrays(self) -> dict[str, np.ndarray]:
        """As `TextColumn.arrays`."""
        return {
            **prefixed('containers', self._containers.arrays()),
            **prefixed('names', self._names.arrays()),
            **{name: np.asarray(getattr(self, f'_{name}')) for name in self._NUMBERS},
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ImageStore:
        store = cls()
        store._containers = CategoryColumn.from_arrays(beneath('containers', arrays))
        store._names = TextColumn.from_arrays(beneath('names', arrays))
        for name, code in cls._NUMBERS.items():
            setattr(store, f'_{name}', array(code, arrays[name].tobytes()))
        return store

    def is_absent(self, number: int) -> bool:
        return not self._containers[number]

    def absent(self) -> list[int]:
        """Numbers of the images of a frozen store that are known to be absent."""
        values = self._containers.values
        nowhere = [code for code in range(len(values)) if not values[code]]
        return np.flatnonzero(np.isin(self._containers.codes, nowhere)).tolist()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> Path | ZipMember | None:
        container, name = self._containers[number], self._names[number]
        if not container:
            return None
        if self._starts[number] < 0:
            return Path(container, name)
        return ZipMember(
            container, name, self._starts[number], self._sizes[number], self._methods[number], self._checksums[number]
        )

    def name(self, number: int) -> str:
        """The image's path, or what the labels call it when it is absent."""
        return os.path.join(self._containers[number], self._names[number])


class ImageIndex:
    """All images found beneath a root, by group (a subset of the data set), category (their folder) and file name."""

    def __init__(self) -> None:
        self._store = ImageStore()
        self._numbers: dict[str, dict[str, int]] = {}  # group -> '<category>/<file>' -> number
        self._by_file: dict[str, dict[str, int]] = {}  # group -> '<file>' -> number, -1 when several bear the name

    def __len__(self) -> int:
        return len(self._store)

    @property
    def groups(self) -> list[str]:
        return list(self._numbers)

    def add(self, group: str, category: str, place: Path | ZipMember) -> None:
        """The first of two images of the same name is kept."""
        key = f'{category}/{normalize_korean(os.path.basename(place.name))}'
        numbers = self._numbers.setdefault(group, {})
        if numbers.setdefault(key, len(self._store)) == len(self._store):
            self._store.append(place, '')

    def __getitem__(self, number: int) -> Path | ZipMember:
        return self._store[number]

    def at(self, group: str, category: str, file: str) -> int | None:
        """Number of exactly that image; the names are normalised ones."""
        return self._numbers.get(group, {}).get(f'{category}/{file}')

    def find(self, groups: list[str], category: str, file: str) -> int | None:
        """Number of the image `<category>/<file>` of one of the groups, else of the only `<file>` there."""
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
    """The images of a zip as (normalised folders inside the zip, member).

    Raises:
        KoviltError: the zip is damaged, or an image is encrypted or packed in a way that Python cannot read straight.
    """
    with open_zip(path) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(IMAGE_SUFFIXES):
                continue
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise KoviltError(
                    f'{path}: {member.filename} is encrypted or packed unusually; extract the zip to a folder'
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
    """The images in a folder and in its zips, with the names that lead to each; a zip counts as a folder."""
    for name in folder.files:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in IMAGE_SUFFIXES:
            yield folder.parts, Path(folder.path, name)
        elif suffix.lower() == '.zip':
            for inside, member in zip_images(os.path.join(folder.path, name)):
                yield (*folder.parts, normalize_korean(stem), *inside), member


def index_by_folder(folders: Iterable[Folder]) -> ImageIndex:
    """All images of the folders and of the zips in them, in group ''; the category is the name of their folder."""
    images = ImageIndex()
    for folder in folders:
        for parts, place in folder_images(folder):
            images.add('', parts[-1] if parts else '', place)
    return images
