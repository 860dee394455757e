"""Removes the report of earlier steps, for a run that leaves none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

REPORT_FILES = ('report.html', 'curves.png', 'curves.csv', 'predictions.jsonl')


class NoReportHook(Hook):
    """Lets no file tell of fewer steps than the run has taken, or of an earlier test, when `--no-report` makes no new
    ones.

    The files go at the first step of a training, or before a test, which leaves curves. The model folder stays: others
    may use it, and its kovilt.json names its step. A file that cannot be removed ends no run.
    """

    def __init__(self) -> None:
        self._has_removed = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        if not self._has_removed:
            self._has_removed = True
            self._remove(runner, REPORT_FILES)

    def before_test(self, runner: Runner) -> None:
        self._remove(runner, ('report.html', 'predictions.jsonl'))  # curves are those of a training

    @staticmethod
    def _remove(runner: Runner, names: Sequence[str]) -> None:
        if runner.rank == 0:
            for name in names:
                with suppress(OSError):
                    Path(runner.work_dir, name).unlink(missing_ok=True)
