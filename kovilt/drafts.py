"""Temporary names of files and folders that are being written; those that killed processes have left are removed."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DRAFT = re.compile(r'\..+\.([0-9a-f]{12})[0-9a-f]{20}\.tmp', re.DOTALL)
_searched: set[str] = set()  # folders in which this process has looked for abandoned drafts
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def new_draft(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new file, or folder, beside `path`; it is removed at the end if it still has its name.

    The process holds a lock on it, which ends with the process. Drafts of this machine without a lock are abandoned:
    they are removed when a process first writes into their folder. The name holds the machine's network address,
    because locks on a network disk may be those of one machine alone; no process id, which repeats.
    """
    _remove_abandoned(path.parent)
    draft = path.with_name(f'.{path.name}.{uuid.getnode():012x}{uuid.uuid4().hex[:20]}.tmp')
    if folder:
        draft.mkdir()
    descriptor = os.open(draft, os.O_RDONLY if folder else os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with suppress(OSError):  # a disk without locks: then nobody else gets one either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield draft
    finally:
        os.close(descriptor)
        _remove(draft)


def _remove_abandoned(folder: Path) -> None:
    key = os.path.abspath(folder)
    if key in _searched:
        return
    _searched.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _DRAFT.fullmatch(entry.name)
            if found and int(found[1], 16) == uuid.getnode():
                with suppress(OSError):  # it is locked, or just gone
                    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        _remove(Path(entry.path))
                    finally:
                        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def replace_folder(new: Path, path: Path) -> None:
    """Give the folder `new` the name of `path`, which may exist; what was there is then called `new`.

    On Linux the two exchange their names in one step, so that a kill leaves the old folder or the new one. Elsewhere,
    or on a disk without that operation, there is a moment in which `path` does not exist.
    """
    if not path.exists():
        new.rename(path)
        return
    exchange = getattr(ctypes.CDLL(None), 'renameat2', None)
    if exchange and not exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE):
        return
    old = new.with_name(f'{new.name}.old')
    path.rename(old)
    new.rename(path)
    old.rename(new)
