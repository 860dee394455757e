"""The members of uncompressed tars: listed once, and read by their offset.

A tar has no directory: listing it reads the 512 bytes before each member, and no content. A compressed tar cannot be
read in the middle; `extract_command` tells how to extract it.
"""

from __future__ import annotations

import io
import os
import posixpath
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from kovilt.datasets.folders import Folder
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.members import Member, open_container
from kovilt.errors import KoviltError, first_line
from kovilt.files import MAX_BYTES, FileKind, open_file

TAR = -1  # the `method` of a TarMember
_MAX_MEMBERS = 5_000_000
_MAX_HEADER = 1 << 20  # bytes of a long name or of an extended header, which tarfile reads whole
_COMPRESSED = ('.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz', '.tar.zst')


class TarMember(Member):
    """A file inside a tar. `start` is the offset in bytes of its content."""

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """Read the file. Raises KoviltError when the tar is gone or has become shorter."""
        content = os.pread(open_container(self.container, 'archive').fileno(), self.size, self.start)
        if len(content) < self.size:
            raise KoviltError(f'{self}: not found where the tar listed it; the tar has changed or is damaged')
        return content


class _BoundedFile(io.BufferedReader):
    """A tar for `tarfile`, which would read a header of any size that the tar states."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_HEADER:
            raise tarfile.ReadError(f'a header of {size:,} bytes')
        return super().read(size)


def tar_members(path: str, suffixes: Sequence[str], kind: FileKind) -> Iterator[tuple[tuple[str, ...], TarMember]]:
    """List the members of a tar whose names end with one of `suffixes`: (normalized folders inside the tar, member).

    Folders and other members are passed over.

    Raises:
        KoviltError: no complete tar, or a compressed one; a member with such a name that is a link, is sparse, leads
            out of the tar (`..`, an absolute path), or is larger than a file of this kind may be; too many members.
    """
    seen: set[str] = set()
    for info, size in _read_headers(path):
        name = _decode_name(info.name)
        if info.isdir() or not name.lower().endswith(tuple(suffixes)):
            continue
        if name.startswith('/') or '..' in name.split('/'):
            raise KoviltError(f'{path}: the member {name[:80]!r} leads out of the tar; make the tar again')
        if not info.isreg() or info.issparse():
            what = 'a link' if info.issym() or info.islnk() else 'no plain file'
            raise KoviltError(f'{path}: the member {name[:80]!r} is {what}; extract the tar to a folder')
        if info.offset_data + info.size > size:
            raise KoviltError(f'{path}: ends within {name[:80]!r}; download it again')
        if info.size > MAX_BYTES[kind]:
            allowed = f'files of this kind ({kind}) may have {MAX_BYTES[kind]:,}'
            raise KoviltError(f'{path}: {name[:80]!r} has {info.size:,} bytes; {allowed}')
        parts = tuple(part for part in posixpath.normpath(name).split('/') if part != '.')
        name = '/'.join(parts)
        if name in seen:
            raise KoviltError(f'{path}: two members are called {name[:80]!r}; make the tar again')
        seen.add(name)
        yield parts[:-1], TarMember(path, name, info.offset_data, info.size, info.size, TAR, 0)


def member_names(path: str, count: int) -> list[str]:
    """The names of the first members, to recognize what a tar holds; empty if it cannot be read."""
    try:
        return [_decode_name(info.name) for info, _ in islice(_read_headers(path), count)]
    except KoviltError:
        return []


def find_compressed(folders: Iterable[Folder]) -> str | None:
    """The path of the first compressed tar in the folders; None if there is none."""
    files = (os.path.join(folder.path, name) for folder in folders for name in folder.files)
    return next((path for path in files if path.lower().endswith(_COMPRESSED)), None)


def extract_command(path: str) -> str:
    """The command that extracts a tar where it lies."""
    return f'tar -xf {shlex.quote(path)} -C {shlex.quote(os.path.dirname(path) or ".")}'


def _read_headers(path: str) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """The headers of a tar, each with the size of the tar."""
    with _BoundedFile(open_file(path, 'archive').detach()) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode='r:', encoding='utf-8', errors='surrogateescape') as archive:
                number = 0
                while (info := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                    number += 1
                    if number > _MAX_MEMBERS:
                        raise KoviltError(f'{path}: more than {_MAX_MEMBERS:,} members; extract it to a folder')
                    yield info, size
                # At a header that is damaged or cut off tarfile ends as at the end.
                file.seek(archive.offset)
                if any(file.read(tarfile.BLOCKSIZE)):
                    raise tarfile.ReadError(f'no member begins at byte {archive.offset:,}')
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            remedy = 'download it again, or extract it to a folder'
            if file.seek(0) == 0 and file.read(6).startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'\x28\xb5\x2f\xfd')):
                remedy = f'it is compressed: {extract_command(path)}'
            raise KoviltError(f'{path}: not a tar that can be read ({first_line(error)}); {remedy}') from None


def _decode_name(name: str) -> str:
    """A normalized name; bytes that are not UTF-8 are taken as CP949, which Korean Windows writes."""
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            name = name.encode('utf-8', 'surrogateescape').decode('cp949', 'replace')
    return '/'.join(map(normalize_korean, name.replace('\\', '/').split('/')))
