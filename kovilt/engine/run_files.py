"""What happens when a file of a run cannot be written: the disk is full, or its folder is closed or gone."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mmengine.logging import print_log

from kovilt.errors import KoviltError, RunFault, first_line
from kovilt.formats.checkpoint import latest_checkpoint

OnSaveError = Literal['stop', 'warn']


class SaveFault(RunFault):
    """A file of a run cannot be written."""


class RunFiles:
    """The files that a run writes into its work folder: checkpoints and records.

    Args:
        work_dir: the work folder.
        on_error: 'stop' ends the run (SaveFault, exit code 1) when a file cannot be written; 'warn' warns once and lets
            the training go on, and the next time it is tried again.
    """

    def __init__(self, work_dir: str | os.PathLike[str], on_error: OnSaveError = 'stop') -> None:
        self.work_dir = Path(os.path.abspath(work_dir))
        self.on_error = on_error
        self._warned: set[str] = set()  # names of the files that could not be written the last time

    def write(self, name: str, write: Callable[[], None]) -> None:
        """Call `write`, which writes the file `name`. With on_error='warn' it may fail.

        Raises:
            SaveFault: the file cannot be written, and the run is to stop.
        """
        try:
            self.check_folder()
            write()
        except OSError as error:
            self.report(name, error)
        else:
            self._warned.discard(name)

    def check_folder(self) -> None:
        """Raise FileNotFoundError if the work folder is gone: a new one would be without lock and records."""
        if not self.work_dir.is_dir():
            raise FileNotFoundError(errno.ENOENT, 'the work folder is gone')

    def report(self, name: str, error: OSError) -> None:
        """Warn that the file `name` could not be written, or raise `fault`."""
        if self.on_error == 'stop':
            raise self.fault(name, error) from error
        if name not in self._warned:
            self._warned.add(name)
            print_log(
                f'{self.work_dir / name}: cannot be written ({error.strerror or first_line(error)}); the training goes '
                'on (on_save_error=warn) and tries again',
                'current',
                level=logging.WARNING,
            )

    def fault(self, name: str, error: OSError) -> SaveFault:
        """The error of a run that ends because the file `name` cannot be written."""
        return SaveFault(
            f'{self.work_dir / name}: cannot be written ({error.strerror or first_line(error)}); {self.describe_safe()}'
        )

    def describe_safe(self) -> str:
        """What of the run is on the disk, and how it is continued."""
        try:
            latest = latest_checkpoint(self.work_dir)
        except (KoviltError, OSError):  # the disk does not even read
            latest = None
        if latest is None:
            return 'no checkpoint is there yet; make room or mend the folder, then start again with --resume'
        return f'{latest} is safe; make room or mend the folder, then repeat the command with --resume'
