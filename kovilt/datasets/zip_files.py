"""The members of zips: listed once by the zip's directory, and read by their offset.

A worker reads a member without loading the directory, which takes 150 MB for 200,000 images. Directory and members are
checked before they are used: a small zip can state millions of members, or one that inflates to terabytes.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.members import Member, open_container
from kovilt.errors import KoviltError
from kovilt.files import MAX_BYTES, FileKind, open_file

_MAX_MEMBERS = 1_000_000  # the largest zips of AI-Hub have 0.3 million
_MAX_DIRECTORY = 128 << 20  # bytes
_MAX_RATIO = 200  # to which size a member may inflate if it is large; label files inflate 20-fold
_LARGE = 16 << 20  # bytes
_CHUNK = 256 << 10  # compressed bytes read at a time
_IS_UTF8, _IS_ENCRYPTED = 0x800, 0x1  # flags of a member


class ZipMember(Member):
    """A file inside a zip. `start` is the offset in bytes of its header, `method` 0 = stored, 8 = deflated."""

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """Read the file. Raises KoviltError when the zip is gone, has changed or is damaged."""
        stream = _MemberStream(self)
        return b''.join(iter(lambda: stream.next_bytes(self.content_size), b''))

    def open(self) -> io.BufferedReader:
        """Open the file for reading bytes, without holding all of it in memory; errors as in `read_bytes`."""
        return io.BufferedReader(_MemberStream(self), buffer_size=4 * _CHUNK)


class _MemberStream(io.RawIOBase):
    """Inflates a member while it is read, and compares its size and checksum with those in the zip's directory."""

    def __init__(self, member: ZipMember) -> None:
        self._member = member
        self._file = open_container(member.container, 'zip').fileno()
        header = os.pread(self._file, 30, member.start)
        if len(header) < 30 or header[:4] != b'PK\x03\x04':
            raise KoviltError(f'{member}: not found where the zip listed it; the zip has changed or is damaged')
        self._at = member.start + 30 + sum(struct.unpack('<HH', header[26:30]))  # behind name and extra field
        self._end = self._at + member.size
        self._inflate = zlib.decompressobj(wbits=-15) if member.method == zipfile.ZIP_DEFLATED else None
        self._left, self._checksum = member.content_size, 0  # bytes that are not read yet, and of what is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # of io: any buffer
        content = self.next_bytes(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def next_bytes(self, size: int) -> bytes:
        """At most this many bytes of the content; empty at its end."""
        content = self._inflate_next(min(size, self._left))
        if not content and (self._left or self._checksum != self._member.checksum):
            raise KoviltError(f'{self._member}: damaged in the zip (wrong size or checksum); download the zip again')
        self._left -= len(content)
        self._checksum = zlib.crc32(content, self._checksum)
        return content

    def _inflate_next(self, size: int) -> bytes:
        if self._inflate is None or not size:
            return self._read(size)
        content = b''
        while not content and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._read(_CHUNK)
            if not packed:
                break
            try:
                content = self._inflate.decompress(packed, size)
            except zlib.error as error:
                raise KoviltError(f'{self._member}: damaged in the zip ({error}); download the zip again') from None
        return content

    def _read(self, size: int) -> bytes:
        packed = os.pread(self._file, min(size, self._end - self._at), self._at)
        self._at += len(packed)
        return packed


class _BoundedFile(io.BufferedReader):
    """A zip file for `zipfile`, which would read a directory of any size that the zip states."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY:
            raise zipfile.BadZipFile(f'its directory has {size:,} bytes')
        content = super().read(size)
        if content.count(b'PK\x01\x02') > _MAX_MEMBERS:
            raise zipfile.BadZipFile(f'more than {_MAX_MEMBERS:,} members')
        return content


def zip_members(path: str, suffixes: Sequence[str], kind: FileKind) -> Iterator[tuple[tuple[str, ...], ZipMember]]:
    """List the members of a zip whose names end with one of `suffixes`: (normalized folders inside the zip, member).

    Raises:
        KoviltError: no complete zip; two members of one name, or in one place; more than a million members; a member
            that is encrypted, compressed by another method than deflate, or larger than a file of this kind may be.
    """
    members = _read_directory(path)
    encoding = _encoding_of_names(members)
    for member in members:
        parts = _decode_name(member, encoding)
        if parts and parts[-1].lower().endswith(tuple(suffixes)) and not member.is_dir():
            _check_member(path, member, '/'.join(parts), kind)
            yield (
                parts[:-1],
                ZipMember(
                    path,
                    '/'.join(parts),
                    member.header_offset,
                    member.compress_size,
                    member.file_size,
                    member.compress_type,
                    member.CRC,
                ),
            )


def _read_directory(path: str) -> list[zipfile.ZipInfo]:
    with _BoundedFile(open_file(path, 'zip').detach()) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members, end = archive.infolist(), archive.start_dir
        except (
            zipfile.BadZipFile,
            zipfile.LargeZipFile,
            NotImplementedError,
            OSError,
            ValueError,
            struct.error,
        ) as error:
            raise KoviltError(
                f'{path}: not a zip that can be read ({error}); download it again, or extract it to a folder'
            ) from None
    name, count = next(iter(Counter(member.filename for member in members).most_common(1)), ('', 1))
    if count > 1:
        raise KoviltError(f'{path}: {count} members are called {name}; make the zip again')
    starts = np.array([member.header_offset for member in members], dtype=np.int64)
    order = np.argsort(starts)
    ends = starts + 30 + np.array([member.compress_size for member in members], dtype=np.int64)
    overlapping = np.flatnonzero(ends[order] > np.append(starts[order][1:], end))
    if len(overlapping):
        name = members[order[overlapping[0]]].filename
        raise KoviltError(f'{path}: {name} reaches into another member or the directory; download the zip again')
    return members


def _check_member(path: str, member: zipfile.ZipInfo, name: str, kind: FileKind) -> None:
    if member.flag_bits & _IS_ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise KoviltError(
            f'{path}: {name} is encrypted or compressed in an unsupported way; extract the zip to a folder'
        )
    is_bomb = member.file_size > max(_LARGE, _MAX_RATIO * member.compress_size)
    if is_bomb or member.file_size > MAX_BYTES[kind] or member.compress_size > MAX_BYTES[kind]:
        raise KoviltError(
            f'{path}: {name} inflates from {member.compress_size:,} to {member.file_size:,} bytes; files of this kind '
            f'({kind}) may have {MAX_BYTES[kind]:,}, and {_MAX_RATIO} times their compressed size'
        )


def _encoding_of_names(members: list[zipfile.ZipInfo]) -> str:
    """The encoding of the names that are not flagged as UTF-8: UTF-8, or CP949, which Korean Windows writes.

    It is one for all members, because the CP949 bytes of 345 syllables, such as those of 책, are valid UTF-8 as well.
    They would be letters of two bytes, so a zip with only such names is taken as CP949.
    """
    names = {_raw_name(member) for member in members if not member.flag_bits & _IS_UTF8}
    names = {name for name in names if not name.isascii()}
    as_utf8, as_cp949 = (sum(_can_decode(name, encoding) for name in names) for encoding in ('utf-8', 'cp949'))
    if as_utf8 == as_cp949 == len(names):
        return 'utf-8' if any(max(name.decode()) > '\u07ff' for name in names) else 'cp949'
    return 'utf-8' if as_utf8 > as_cp949 else 'cp949'


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    return member.filename.encode('cp437')  # as which Python decodes a name without a flag


def _can_decode(name: bytes, encoding: str) -> bool:
    try:
        return bool(name.decode(encoding))
    except UnicodeDecodeError:
        return False


def _decode_name(member: zipfile.ZipInfo, encoding: str) -> tuple[str, ...]:
    """The normalized parts of a member's path. A name that the encoding does not fit stays as Python decoded it."""
    name = member.filename
    if not member.flag_bits & _IS_UTF8 and not name.isascii() and _can_decode(_raw_name(member), encoding):
        name = _raw_name(member).decode(encoding)
    return tuple(normalize_korean(part) for part in name.replace('\\', '/').split('/') if part)
