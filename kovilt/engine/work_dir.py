"""The folders of a run: checked before it begins. Its work folder is locked, and removed if the run never begins."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kovilt.errors import KoviltError

# The path of a socket has 107 bytes, of which multiprocessing's names take 32: /pymp-abcdefgh/listener-abcdefgh
_MAX_TEMPORARY_FOLDER = 107 - 32


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise KoviltError unless a file can be created in `folder`, which need not exist. Leaves nothing behind."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise KoviltError(
            f'work-dir {folder}: cannot write there ({error.strerror}); choose another with --work-dir'
        ) from error


def check_temporary_folder() -> None:
    """Raise KoviltError if the workers of a data loader cannot have sockets in the temporary folder.

    They would send no batch, and the run would wait for ever.
    """
    folder = tempfile.gettempdir()
    if (size := len(os.fsencode(folder))) > _MAX_TEMPORARY_FOLDER:
        raise KoviltError(
            f'TMPDIR {folder}: its path has {size} bytes, but data-loader workers need sockets there, for which it may '
            f'have {_MAX_TEMPORARY_FOLDER}; set TMPDIR to a shorter one, or num_workers to 0'
        )


class WorkDirBefore:
    """Remembers which folders exist before a run creates its work folder, so that the run can be undone.

    Args:
        work_dir: the work folder of the run to come.
    """

    def __init__(self, work_dir: str | os.PathLike[str]) -> None:
        self.work_dir = Path(work_dir).absolute()
        self.existed = self.work_dir.is_dir()
        self.missing_parents = [folder for folder in self.work_dir.parents if not folder.exists()]

    def restore(self, log_dir: str | os.PathLike[str] | None) -> None:
        """Remove what the run has created: its log folder, and the work folder with its parents if they are new.

        Without a log folder the work folder may hold the files of another process: it is removed if it is empty.
        """
        if log_dir is not None:
            shutil.rmtree(log_dir if self.existed else self.work_dir, ignore_errors=True)
        for folder in [*([] if self.existed else [self.work_dir]), *self.missing_parents]:
            with suppress(OSError):  # not empty: another run has written there meanwhile
                folder.rmdir()


def create_log_dir(work_dir: str | os.PathLike[str], timestamp: str, number: int = 1) -> str:
    """Create a log folder that no other run has, also one that begins in the same second, and return its name.

    A run that shared the folder of another would write into its log, and remove it when bad input stops the run.

    Args:
        timestamp: the name of the folder; the second run of a second appends `_2`.
        number: the first number to try.
    """
    while True:
        name = timestamp if number == 1 else f'{timestamp}_{number}'
        with suppress(FileExistsError):
            Path(work_dir, name).mkdir()
            return name
        number += 1


@contextmanager
def lock_work_dir(work_dir: str | os.PathLike[str], *, resume: bool) -> Iterator[None]:
    """Hold the lock of a work folder, so that one folder belongs to one run.

    The lock is a POSIX record lock on `run.lock`: it ends with the process, however that ends, and workers that the
    process forks do not inherit it.

    Args:
        resume: the run continues an earlier one; otherwise the folder must not hold records of one.

    Raises:
        KoviltError: another process trains in this folder, it holds an earlier run, or its disk has no locks.
    """
    path = Path(work_dir, 'run.lock')
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise KoviltError(
                    f'work-dir {work_dir}: cannot be locked ({error.strerror}); choose a folder on another disk'
                ) from error
            file.seek(0)
            raise KoviltError(
                f'work-dir {work_dir}: a run is going on there ({file.read().strip() or "starting"}); choose another '
                'folder with --work-dir'
            ) from None
        if not resume:
            _check_no_earlier_run(Path(work_dir))
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # a start that is refused leaves the folder as it was


def _check_no_earlier_run(work_dir: Path) -> None:
    record = work_dir / 'metrics.jsonl'
    found = [record] if record.is_file() and record.stat().st_size else sorted(work_dir.glob('*_*.pth'))
    if found:
        raise KoviltError(
            f'work-dir {work_dir}: it holds an earlier run ({found[0].name}); continue that one with --resume, or '
            'choose another folder with --work-dir'
        )
