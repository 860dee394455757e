"""Reads what a training or a test has left in its work folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.evaluation.breakdown import Prediction, read_all_predictions
from kovilt.files import read_json, read_json_lines
from kovilt.formats.checkpoint import choose_checkpoint
from kovilt.visualization import read_metrics

Metrics = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # of `read_metrics`


class Run:
    """A work folder of `kovilt train` or `kovilt test`. Each part is read when it is asked for.

    Args:
        folder: the work folder.

    Raises:
        KoviltError: it holds neither the record of a training nor the result of a test.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.is_test = (self.folder / 'metrics.json').is_file()
        if not self.is_test and not (self.folder / 'metrics.jsonl').is_file():
            raise KoviltError(
                f'{folder}: no work folder of a run: it has neither metrics.jsonl, which kovilt train writes, nor '
                'metrics.json, which kovilt test writes'
            )

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @functools.cached_property
    def _test(self) -> dict[str, Any]:
        return read_json(self.folder / 'metrics.json') if self.is_test else {}

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the record of the training; of a test none."""
        path = self.folder / 'metrics.jsonl'
        return [row for _, row in read_json_lines(path, 'table', cut_off=True)] if not self.is_test else []

    @functools.cached_property
    def checkpoint(self) -> Path | None:
        """What was tested, or the best checkpoint of the training, else its latest; None if it is not there."""
        found = Path(str(self._test.get('checkpoint', ''))) if self.is_test else choose_checkpoint(self.folder)
        return found if found != self.folder and found.exists() else None

    @functools.cached_property
    def result(self) -> dict[str, Any]:
        """The numbers of the test, or of the validation of `checkpoint`; of a training without one none."""
        if self.is_test:
            return dict(self._test.get('metrics') or {})
        evaluated = [row for row in self.rows if row.get('mode') == 'val']
        found = re.search(r'_(iter|epoch)_(\d+)$|^(iter|epoch)_(\d+)$', self.checkpoint.stem if self.checkpoint else '')
        if found:
            key, number = ('step' if 'iter' in found[0] else 'epoch'), int(found[2] or found[4])
            evaluated = [row for row in evaluated if row.get(key) == number] or evaluated
        return {name: value for name, value in evaluated[-1].items() if name != 'mode'} if evaluated else {}

    @property
    def calibration(self) -> dict[str, Any]:
        """What the test tells of a calibration; empty if there was none."""
        return dict(self._test.get('calibration') or {})

    @functools.cached_property
    def curves(self) -> Metrics:
        """The metrics of the training; of a test those of the training beside its checkpoint, if they are there."""
        folder = self.curves_folder
        return read_metrics(folder) if folder else {}

    @property
    def curves_folder(self) -> Path | None:
        """The folder with the record of the training."""
        folder = (self.checkpoint.parent if self.checkpoint else None) if self.is_test else self.folder
        return folder if folder and (folder / 'metrics.jsonl').is_file() else None

    @property
    def has_predictions(self) -> bool:
        return (self.folder / 'predictions.jsonl').is_file()

    @functools.cached_property
    def predictions(self) -> list[Prediction]:
        """The predictions of `checkpoint`; empty if there are none, as of pre-training."""
        return read_all_predictions(self.folder / 'predictions.jsonl') if self.has_predictions else []

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Command, versions and machine."""
        if self.is_test:
            return dict(self._test.get('environment') or {})
        path = self.folder / 'environment.json'
        return read_json(path) if path.is_file() else {}

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The datasets by split, as `describe_data` tells them."""
        if self.is_test:
            return dict(self._test.get('data') or {})
        path = self.folder / 'data.json'
        return read_json(path) if path.is_file() else {}

    @functools.cached_property
    def config_file(self) -> Path | None:
        """The config that the run has written, with all options; of several the newest."""
        files = sorted(self.folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
        return files[-1] if files else None

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The values of `config_file`. It is a program: the modules of its `custom_imports` are imported."""
        from kovilt.engine.config import load_config

        if self.config_file is None:
            raise KoviltError(f'{self.folder}: holds no config')
        return load_config(self.config_file).to_dict()

    @property
    def seconds(self) -> float:
        """From the first to the last row of the record, interruptions included."""
        times = [row['time'] for row in self.rows if isinstance(row.get('time'), int | float)]
        return float(times[-1] - times[0]) if times else 0.0

    @functools.cached_property
    def trained(self) -> Any:
        """The model of `checkpoint`, as `load_trained` gives it, on the CPU."""
        from kovilt.apis.loading import load_trained

        if self.checkpoint is None:
            raise KoviltError(f'{self.folder}: its checkpoint is gone')
        return load_trained(self.checkpoint)

    @property
    def answer_counts(self) -> dict[str, int]:
        """Answer -> number of training rows with it; empty where the model does not know."""
        counts = self.trained.info.get('answer_counts') or []
        answers = list(getattr(self.trained.model, 'answers', ()))
        if len(answers) != len(counts):
            return {}
        return {normalize_korean(answer): count for answer, count in zip(answers, counts, strict=True)}
