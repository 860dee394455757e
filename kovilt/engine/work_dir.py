"""The work folder of a run: checked before the run begins, removed again if the run never begins."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from kovilt.errors import KoviltError


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


class WorkDirBefore:
    """Remembers which folders exist before a run creates its work folder, so that the run can be undone.

    Args:
        work_dir: the work folder of the run to come.
    """

    def __init__(self, work_dir: str | os.PathLike[str]) -> None:
        self.work_dir = Path(work_dir).absolute()
        self.existed = self.work_dir.is_dir()
        self.missing_parents = [folder for folder in self.work_dir.parents if not folder.exists()]

    def restore(self, log_dir: str | os.PathLike[str]) -> None:
        """Remove what the run has created: its log folder, and the work folder with its parents if they are new."""
        shutil.rmtree(log_dir if self.existed else self.work_dir, ignore_errors=True)
        for folder in self.missing_parents:
            with suppress(OSError):  # not empty: another run has written there meanwhile
                folder.rmdir()
