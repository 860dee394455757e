"""Finding the files of a data set beneath its folder, and no others.

A data set comes from outside: a link in it, or a path in one of its rows, must not make kovilt read files that lie
elsewhere, unless the user says so by `allow_outside` of the reader.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError, nearest

_MAX_FILES = 5_000_000  # all question sets of AI-Hub together have 3 million; / has more
_MAX_DEPTH = 50  # folders within each other
_MAX_NAME, _MAX_PATH = 255, 4095  # bytes, on all usual file systems
_PART = re.compile(r'(?P<whole>.+\.(?:zip|json))\.part\d*', re.IGNORECASE)
_ELSEWHERE = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:')  # C:\a.jpg, file:///a.jpg, https://b.kr/a.jpg
_HALF = re.compile('[\ud800-\udfff]')  # stands for a byte that is not UTF-8 in the name of a file
_NO_TEXT = re.compile(r'[\0-\x1f\x7f\ud800-\udfff]')  # control characters, half characters


class Folder(NamedTuple):
    """A listed folder: its path, the normalized names of the folders from the root to it, and its file names."""

    path: str
    parts: tuple[str, ...]
    files: list[str]


def check_data_root(data_root: str | os.PathLike[str], how_to_get: str = '') -> Path:
    """The absolute path of a folder with files.

    Raises:
        KoviltError: no such folder, a file in its place, or an empty folder.
    """
    path = Path(os.path.abspath(os.path.expanduser(data_root)))
    try:
        is_empty = not os.listdir(path)
    except NotADirectoryError:
        raise KoviltError(f'data_root {data_root}: a file, not a folder; give the folder that holds it') from None
    except FileNotFoundError:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = nearest(path.name, siblings)
        raise KoviltError(f'data_root {data_root}: no such folder{guess}. {how_to_get}'.rstrip()) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise KoviltError(f'data_root {data_root}: cannot be read ({getattr(error, "strerror", error)})') from None
    if is_empty:
        raise KoviltError(f'data_root {data_root}: an empty folder. {how_to_get}'.rstrip())
    return path


def list_folders(root: Path, *, allow_outside: bool = False) -> Iterator[Folder]:
    """List `root` and every folder below it in a fixed order; links are followed, but no folder is listed twice.

    Raises:
        KoviltError: a link leads out of `root`, and `allow_outside` is not set; a folder that cannot be read; too many
            files or folders within each other; a download that is still split into parts (`X.zip.part0`, ...); a name
            that is not UTF-8, which no table can hold.
    """
    _check_encoding(str(root))
    inside = os.path.realpath(root)
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    num_files = 0
    while pending:
        path, parts = pending.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                folders: list[str] = []
                files: list[str] = []
                for entry in entries:
                    if entry.is_symlink() and not allow_outside:
                        _check_inside(entry.path, inside)
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError as error:
            raise KoviltError(f'{path}: cannot be read ({error.strerror})') from error
        for name in (*folders, *files):
            if not name.isascii():
                _check_encoding(name, path)
        num_files += len(files)
        if num_files > _MAX_FILES or len(parts) > _MAX_DEPTH:
            many = f'{_MAX_FILES:,} files' if num_files > _MAX_FILES else f'{_MAX_DEPTH} folders within each other'
            raise KoviltError(f'{root}: more than {many}, in {path}; give the folder of the data set alone')
        pending += [(f'{path}/{name}', (*parts, normalize_korean(name))) for name in sorted(folders, reverse=True)]
        files.sort()
        _check_parts(path, files)
        yield Folder(path, parts, files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_encoding(name: str, folder: str = '') -> None:
    if _HALF.search(name):
        remedy = f"convmv -r -f cp949 -t utf-8 --notest '{folder or os.path.dirname(name)}' renames files from Windows"
        raise KoviltError(f'{os.path.join(folder, name)}: its name is not UTF-8; {remedy}')


def _check_parts(path: str, files: list[str]) -> None:
    for name in files:
        part = _PART.fullmatch(name)
        if part and part['whole'] not in files:
            whole = os.path.join(path, part['whole'])
            raise KoviltError(
                f'{os.path.join(path, name)}: a part of a download; join the parts first: '
                f"ls -v '{whole}'.part* | xargs -d '\\n' cat > '{whole}'"
            )


def _check_inside(path: str, root: str) -> None:
    """KoviltError unless `path`, all links resolved, lies beneath `root`, which is resolved."""
    target = os.path.realpath(path)
    if os.path.commonpath([root, target]) != root:
        raise KoviltError(
            f'{path}: leads to {target}, which is outside {root}; remove the link, or set allow_outside=True in the '
            'reader if you trust this data'
        )


def normalize_path(path: str, root: Path, *, allow_outside: bool = False) -> str:
    """The path that a row of a data set gives, relative to `root`, without `.`, `..` and Windows' backslashes.

    With `allow_outside` it may be absolute or lead out of `root`.

    Raises:
        KoviltError: a path that leads out of `root`, a URL, a drive letter, control characters, a name that is longer
            than file systems allow. The message does not name the row.
    """
    shown = repr(path if len(path) <= 80 else f'{path[:80]}...')
    relative = posixpath.normpath(path.replace('\\', '/'))
    if _NO_TEXT.search(path):
        raise KoviltError(f'the path {shown} holds a control character; correct the row')
    if _ELSEWHERE.match(path):
        raise KoviltError(f'the path {shown} is a URL or has a drive letter; give a path beneath {root}')
    if len(relative.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in relative.split('/')):
        raise KoviltError(f'the path {shown} is longer than file systems allow; correct the row')
    if not allow_outside and relative.split('/')[0] in ('', '..'):
        raise KoviltError(
            f'the path {shown} leads out of {root}; set allow_outside=True in the reader if you trust this data'
        )
    return relative


def locate(root: Path, path: str, *, allow_outside: bool = False) -> Path:
    """Where the file lies, which need not exist, that a row of a data set names by `path`.

    Raises:
        KoviltError: as `normalize_path`; a link on the path that leads out of `root`.
    """
    place = root / normalize_path(path, root, allow_outside=allow_outside)
    if not allow_outside:
        _check_inside(str(place), os.path.realpath(root))
    return place


def find_file(root: Path, name: str, folders: Iterable[Folder]) -> Path | None:
    """Find a file by its path (absolute or relative to `root`), or else the first file of that name in the folders."""
    path = root / os.path.expanduser(name)
    if path.is_file():
        return path
    wanted = normalize_korean(name)
    found = (Path(folder.path, file) for folder in folders for file in folder.files if normalize_korean(file) == wanted)
    return next(found, None)


def where_instead(names: Iterable[str], folders: list[Folder]) -> str:
    """What a message says of files that are not in the first folder: the folder below that has one, or a similar name.

    Never proposes the file of another split.
    """
    root, *below = folders
    names = list(names)
    for folder in below:
        if found := next((name for name in names if name in folder.files), None):
            return f'; {found} lies in {folder.path}, give that as data_root'
    return next((guess for name in names if (guess := nearest(name, root.files))), '')
