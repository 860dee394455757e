"""Faults at exact moments of writing: every file operation below a folder is an event at which something can happen."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class FileEvent(NamedTuple):
    """A file operation that is about to happen, or that is half done."""

    name: str  # open, rename, remove, mkdir, fsync; save, save.half
    path: str  # of a rename, the new name


class FileEvents:
    """Calls `act` at every operation that changes files below `folder` in this process, before it happens.

    Python's audit events tell of opening for writing, renaming, removing and creating folders, wherever kovilt,
    MMEngine or a library does so. torch.save writes outside of Python: 'save' comes before it, and 'save.half' when
    half of the bytes are there. `os.fsync` is no audit event and is replaced. Call it in a forked process: a hook
    cannot be removed.

    Args:
        act: gets the number of the event, counted from 0, and the event.
    """

    def __init__(self, folder: Path, act: Callable[[int, FileEvent], None]) -> None:
        import torch

        self.folder, self.act = os.path.abspath(folder), act
        self.count = 0
        self._inside = threading.local()  # what `act` does is no event
        self._lock = threading.Lock()  # a thread writes checkpoints
        self._save, self._fsync = torch.save, os.fsync
        sys.addaudithook(self._hear)
        torch.save = self._torch_save
        os.fsync = self._os_fsync

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == 'open' and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._tell('open', arguments[0])
        elif event == 'os.rename':
            self._tell('rename', arguments[1])
        elif event in ('os.remove', 'os.rmdir', 'os.mkdir', 'os.truncate', 'shutil.rmtree'):
            self._tell(event.removeprefix('os.'), arguments[0])

    def _tell(self, name: str, path: Any) -> None:
        if getattr(self._inside, 'now', False) or not isinstance(path, (str, os.PathLike)):
            return
        place = os.path.abspath(os.fspath(path))
        if place != self.folder and not place.startswith(self.folder + os.sep):
            return
        with self._lock:
            number, self.count = self.count, self.count + 1
        self._inside.now = True
        try:
            self.act(number, FileEvent(name, place))
        finally:
            self._inside.now = False

    def _os_fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self._tell('fsync', os.readlink(f'/proc/self/fd/{number}'))
        self._fsync(descriptor)

    def _torch_save(self, value: Any, file: Any, *arguments: Any, **options: Any) -> None:
        path = getattr(file, 'name', file)  # a path or an open file
        self._tell('save', path)
        self._save(value, file, *arguments, **options)
        if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
            if file is not path:
                file.flush()
            content = Path(path).read_bytes()
            os.truncate(path, len(content) // 2)
            self._tell('save.half', path)
            Path(path).write_bytes(content)


def kill_at(number: int) -> Callable[[int, FileEvent], None]:
    """An action that kills this process at an event, as an out-of-memory killer or a power cut would."""

    def act(count: int, event: FileEvent) -> None:
        if count == number:
            os.kill(os.getpid(), 9)

    return act
