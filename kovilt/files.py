"""Opening files that come from outside, atomic writes, JSON and digests.

Every file that a user names or a downloaded folder holds is opened by `open_file`, or checked by `check_file` where a
library opens it: only regular files of a size that fits what they hold pass, so that a pipe, a device or a huge file
neither blocks nor fills the memory.

A file is written under a temporary name in the same folder and renamed when it is complete, so a crash or a full disk
leaves no half-written file; what killed processes leave is removed later (`kovilt/drafts.py`). It gets the permissions
of the user's umask, like any other new file.
"""

from __future__ import annotations

import codecs
import errno
import functools
import hashlib
import io
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kovilt.drafts import new_draft, replace_folder
from kovilt.errors import KoviltError
from kovilt.json_text import MAX_VALUE, NUL_BYTE, dump_json, encoding_error, parse_json

FileKind = Literal[
    'config', 'JSON', 'table', 'labels', 'tokenizer', 'weights', 'image', 'zip', 'archive', 'prepared', 'answers'
]

# The bytes that a file may have at most, by what it holds.
MAX_BYTES: dict[FileKind, int] = {
    'config': 4 << 20,  # Python source; the largest saved config of MMEngine's users has 0.3 MB
    'JSON': 64 << 20,  # read whole, and its values take five times as much; id2label of 100,000 answers has 3 MB
    'table': 2 << 30,  # JSONL and CSV, read by lines; all 7.1 million questions of AI-Hub 101 have 1.4 GB
    'labels': 2 << 30,  # JSON read by rows; the annotations of VQAv2 have 0.4 GB
    'tokenizer': 64 << 20,  # tokenizer.json of 250,000 tokens has 17 MB
    'weights': 16 << 30,  # a checkpoint of 1 billion parameters with the state of AdamW
    'image': 200 << 20,  # 50 megapixels without compression, 4 bytes a pixel
    'zip': 1 << 40,  # only its directory is read whole; the largest image zips of AI-Hub have 0.1 TB
    'archive': 1 << 40,  # tars, and tables with images in their cells; read by parts
    'prepared': 1 << 40,  # mapped, not read
    'answers': 1 << 40,  # written by kovilt, read by lines
}
_TYPES = {
    stat.S_IFIFO: 'a pipe',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}
_MAX_LISTED = 100_000  # files of a folder among which a name of other case is searched


def open_file(path: str | os.PathLike[str], kind: FileKind) -> io.BufferedReader:
    """Open a file from outside for reading bytes. Never blocks, and has no effect on what is not a regular file.

    Raises:
        KoviltError: no such file (raised from FileNotFoundError), no regular file, not readable, or larger than
            `MAX_BYTES[kind]`.
    """
    check_file(path, kind)
    try:
        file = open(path, 'rb', opener=_open_without_waiting)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _check_status(path, kind, os.fstat(file.fileno()))  # the file may have been exchanged since the first look
    except KoviltError:
        file.close()
        raise
    return file


def check_file(path: str | os.PathLike[str], kind: FileKind) -> None:
    """The checks of `open_file` on a file that a library will open by its path.

    Raises:
        KoviltError: as `open_file`.
    """
    try:
        status = os.stat(path)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL or a lone surrogate
        raise _unreadable(path, error) from error
    _check_status(path, kind, status)


def read_bytes(path: str | os.PathLike[str], kind: FileKind) -> bytes:
    """The content of a file from outside. Raises KoviltError as `open_file`."""
    with open_file(path, kind) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            content = file.read(size + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(content) > size:  # written to meanwhile, or a file of /proc, whose size is unknown
        raise KoviltError(f'{path}: grows while it is read; give a file that is complete')
    return content


def read_text(path: str | os.PathLike[str], kind: FileKind) -> str:
    """The content of a UTF-8 file from outside, without its byte order mark; KoviltError also if it is not UTF-8."""
    try:
        return read_bytes(path, kind).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise encoding_error(str(path), error) from error


def read_lines(path: str | os.PathLike[str], kind: FileKind) -> Iterator[str]:
    """The lines of a UTF-8 file from outside, without a byte order mark; only one is in memory at a time.

    Raises:
        KoviltError: as `open_file`; a line that is not UTF-8, holds a NUL or is longer than MAX_VALUE bytes.
    """
    return (text for _, text in read_placed_lines(path, kind))


def read_placed_lines(path: str | os.PathLike[str], kind: FileKind) -> Iterator[tuple[int, str]]:
    """As `read_lines`, each with the byte of the file with which it begins."""
    number, start = 0, 0
    with open_file(path, kind) as file:
        try:
            while line := file.readline(MAX_VALUE + 1):
                number += 1
                if len(line) > MAX_VALUE:
                    raise KoviltError(f'{path}, line {number}: longer than {MAX_VALUE:,} bytes; is it the right file?')
                text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
                if '\0' in text:
                    raise KoviltError(f'{path}, line {number}: {NUL_BYTE}')
                has_mark = number == 1 and line.startswith(codecs.BOM_UTF8)
                yield start + len(codecs.BOM_UTF8) * has_mark, text
                start += len(line)
        except UnicodeDecodeError as error:
            raise encoding_error(f'{path}, line {number}', error) from error
        except OSError as error:
            raise _unreadable(path, error) from error


def _open_without_waiting(path: str, flags: int) -> int:
    # O_NONBLOCK: opening a pipe would wait for its writer. Absent on Windows, which has no such files.
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def _check_status(path: str | os.PathLike[str], kind: FileKind, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise KoviltError(f'{path}: is a folder, a file is needed here')
    if not stat.S_ISREG(status.st_mode):
        raise KoviltError(f'{path}: no regular file but {_TYPES.get(stat.S_IFMT(status.st_mode), "a special file")}')
    if status.st_size > MAX_BYTES[kind]:
        raise KoviltError(
            f'{path}: {status.st_size:,} bytes, but files of this kind ({kind}) may have {MAX_BYTES[kind]:,}; '
            'give the right file'
        )


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> KoviltError:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return KoviltError(f'{path}: a link to {os.readlink(path)}, which does not exist')
        return KoviltError(f'{path}: no such file{name_on_disk(path)}')
    reason = error.strerror if isinstance(error, OSError) else error
    return KoviltError(f'{path}: cannot be read ({reason})')


def name_on_disk(path: str | os.PathLike[str]) -> str:
    """A hint at a file whose name differs from the missing one's in case or in the composition of Hangul alone."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        found = _names_in(folder, os.stat(folder).st_mtime_ns).get(_fold(name))
    except (OSError, ValueError):
        return ''
    return f'; there is {found!r}, whose name differs in upper and lower case or in Unicode form' if found else ''


@functools.lru_cache(maxsize=1)  # a table may name thousands of missing files of one folder
def _names_in(folder: str, changed: int) -> dict[str, str]:
    """Folded name -> name of the files of a folder; `changed`, its time, tells a changed folder from a cached one."""
    with os.scandir(folder) as entries:
        return {_fold(entry.name): entry.name for entry in itertools.islice(entries, _MAX_LISTED)}


def _fold(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to, which is renamed to `path` when the block ends without an error.

    The folder of `path` is created. After an error the temporary file is removed and an older `path` is unchanged.
    The content is on the disk before the file has its name: a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_draft(path) as draft:
        yield draft
        _synchronize(draft)
        os.replace(draft, path)
        _synchronize(path.parent)


def _synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to write to, which takes the place of the folder `path` when the block ends without an error.

    Raises:
        KoviltError: an OSError in the block, such as a full disk, or the folder cannot be created or replaced.
    """
    path = Path(os.path.abspath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_draft(path, folder=True) as draft:
            yield draft
            replace_folder(draft, path)
    except OSError as error:
        raise KoviltError(f'{path}: cannot be written ({error.strerror or error}); choose another place') from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; a lone surrogate, as in a file name that is not UTF-8, is written as \\udcff."""
    with atomic_path(path) as draft:
        draft.write_text(text, encoding='utf-8', errors='backslashreplace')


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Append UTF-8 text to a file, all of it or, on a full disk, nothing. It is on the disk when this returns."""
    with open(path, 'ab', buffering=0) as file:
        size = file.tell()
        try:
            if file.write(content := text.encode(errors='backslashreplace')) < len(content):
                file.write(content[file.tell() - size :])  # the disk is full, which only the second call says
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write an indented JSON file atomically, with Hangul unescaped."""
    write_text(path, dump_json(value, indent=2) + '\n')


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file atomically, one object a line."""
    with atomic_path(path) as draft, open(draft, 'w', encoding='utf-8') as file:
        for row in rows:
            file.write(dump_json(row) + '\n')


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file, which may begin with a byte order mark.

    Raises:
        KoviltError: as `read_text`; not JSON that `json_text` accepts, or not an object.
    """
    content = parse_json(read_text(path, 'JSON'), path)
    if not isinstance(content, dict):
        raise KoviltError(f'{path}: holds a JSON {type(content).__name__}, not an object')
    return content


def read_json_lines(
    path: str | os.PathLike[str], kind: FileKind, *, cut_off: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, one at a time, each with the number of its line; blank lines are skipped.

    Args:
        cut_off: ignore a last line without an end, which a killed run leaves.

    Raises:
        KoviltError: as `read_lines` and `read_json`, with file and line.
    """
    for number, line in enumerate(read_lines(path, kind), 1):
        if line.strip() and (line.endswith('\n') or not cut_off):
            value = parse_json(line.rstrip(), path, line=number, remedy='write one object in each line')
            if not isinstance(value, dict):
                raise KoviltError(f'{path}, line {number}: expecting an object, found {line.strip()[:40]!r}')
            yield number, value


def file_sha256(path: str | os.PathLike[str], kind: FileKind) -> str:
    """SHA-256 of a file's content, in hexadecimal digits. Raises KoviltError as `open_file`."""
    with open_file(path, kind) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
