"""The record of a run in its work folder: environment, data and all logged numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import get_git_hash

import kovilt
from kovilt.engine.hooks.step_info import step_values
from kovilt.files import append_text, read_json_lines, write_json, write_json_lines
from kovilt.json_text import dump_json
from kovilt.ranges import Count, check_arguments
from kovilt.registry import HOOKS

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'transformers', 'tokenizers', 'numpy', 'pillow')


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes `environment.json`, `data.json` and `metrics.jsonl` into the work folder, from rank 0.

    `metrics.jsonl` holds one JSON object a line, of three modes. "train", every `interval` steps: the means, over
    those steps and all processes, of everything that the model's training step returns, and the learning rates. "val",
    after each evaluation: its metrics. "epoch": the results of EpochTimeHook. `step` counts optimizer steps. A resumed
    run removes the lines of later steps and continues the file.

    Args:
        interval: steps from one "train" line to the next.
    """

    priority = 'LOW'  # before CheckpointHook: a checkpoint never lacks the lines up to its step

    @check_arguments
    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self.path: Path | None = None  # metrics.jsonl; None before a training
        self.sums: dict[str, torch.Tensor] = {}  # since the last "train" line
        self.count = 0
        self._unwritten: list[str] = []  # lines of the record that a full disk has not taken

    def before_train(self, runner: Runner) -> None:
        self.path = path = Path(runner.work_dir, 'metrics.jsonl')
        if is_main_process():
            content = describe_environment(runner)
            runner.files.write('environment.json', lambda: write_json(path.with_name('environment.json'), content))
            self._write_data(runner)
            runner.files.write(path.name, lambda: truncate_record(path, runner.iter))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        for name, value in step_values(runner, outputs).items():
            self.sums[name] = self.sums.get(name, 0) + value.double()
        self.count += 1
        if (runner.iter + 1) % self.interval == 0 or runner.iter + 1 == runner.max_iters:
            self._write_means(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.count:
            self._write_means(runner, runner.iter)
        times = runner.message_hub.runtime_info.get('epoch_time', {})
        self._append(runner, {'mode': 'epoch', 'step': runner.iter, 'epoch': runner.epoch, **times})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        if metrics and (path := self.path) is not None:
            if is_main_process():
                runner.files.write(path.name, lambda: truncate_record(path, runner.iter, again='val'))
            self._append(runner, {'mode': 'val', 'step': runner.iter, 'epoch': runner.epoch, **to_numbers(metrics)})

    def after_train(self, runner: Runner) -> None:
        if is_main_process():  # again, because broken images are only known after they were read
            self._write_data(runner)

    def _write_means(self, runner: Runner, step: int) -> None:
        names = sorted(self.sums)
        means = torch.stack([self.sums[name] for name in names]) / self.count
        all_reduce(means, op='mean')
        groups = runner.optim_wrapper.optimizer.param_groups
        learning_rates = {f'lr/{group.get("name", i)}': group['lr'] for i, group in enumerate(groups)}
        values = dict(zip(names, means.tolist(), strict=True))
        self._append(runner, {'mode': 'train', 'step': step, 'epoch': runner.epoch, **values, **learning_rates})
        self.sums, self.count = {}, 0

    def _append(self, runner: Runner, line: dict[str, Any]) -> None:
        if is_main_process() and self.path is not None:
            self._unwritten.append(dump_json({**line, 'time': round(time.time(), 1)}) + '\n')
            runner.files.write(self.path.name, self._write_lines)

    def _write_lines(self) -> None:
        assert self.path is not None
        append_text(self.path, ''.join(self._unwritten))
        self._unwritten.clear()

    @staticmethod
    def _write_data(runner: Runner) -> None:
        datasets = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            datasets['val'] = runner.val_dataloader.dataset
        content = {split: describe_data(dataset) for split, dataset in datasets.items()}
        runner.files.write('data.json', lambda: write_json(Path(runner.work_dir, 'data.json'), content))


def truncate_record(path: Path, step: int, again: str = '') -> None:
    """Remove the rows of a `metrics.jsonl` after `step`, which a resumed run repeats; at step 0 remove all of them.

    `again` is a mode of which the rows of `step` itself are removed as well, because they are about to be repeated.
    """
    rows = [row for _, row in read_json_lines(path, 'table', cut_off=True)] if step and path.is_file() else []
    kept = [row for row in rows if row.get('step', 0) <= step and (row.get('step'), row.get('mode')) != (step, again)]
    write_json_lines(path, kept)


def read_validation(work_dir: str | os.PathLike[str], step: int) -> dict[str, Any] | None:
    """The row of the validation after `step` in the record of a run, as rank 0 finds it; None if there is none."""
    path = Path(work_dir, 'metrics.jsonl')
    found: list[dict[str, Any] | None] = [None]
    if is_main_process() and path.is_file():
        for _, row in read_json_lines(path, 'table', cut_off=True):
            if (row.get('mode'), row.get('step')) == ('val', step):
                found = [row]
    broadcast_object_list(found)
    return found[0]


def describe_data(dataset: Any) -> dict[str, Any]:
    """Class and length of a dataset and, if it has a `summary()`, what that returns: files, digests, counts."""
    summary = getattr(dataset, 'summary', dict)
    return {'type': type(dataset).__name__, 'rows': len(dataset), **summary()}


def describe_environment(runner: Runner) -> dict[str, Any]:
    """Command, versions, seed and machine of a run."""
    return {
        'command': sys.argv,
        'started': time.strftime('%Y-%m-%d %H:%M:%S'),
        'kovilt': kovilt.__version__,
        'git': get_git_hash(fallback='', digits=12),
        'git_changes': changed_files(),
        'seed': runner.seed,
        'processes': runner.world_size,
        'python': platform.python_version(),
        'packages': {package: _version(package) for package in PACKAGES},
        'machine': platform.platform(),
        'cpus': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def changed_files(limit: int = 20) -> list[str]:
    """The files of the current folder's repository that differ from its commit, at most `limit` and a count."""
    try:
        done = subprocess.run(
            # The user's git. quotePath: names in Hangul stay as they are.
            ['git', '-c', 'core.quotePath=false', 'status', '--porcelain', '--untracked-files=no'],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):  # no git, no repository, a slow disk
        return []
    files = [line[3:] for line in done.stdout.splitlines()]
    return files[:limit] + ([f'and {len(files) - limit} more'] if len(files) > limit else [])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def to_numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics with Python numbers in place of tensors, for JSON."""
    return {
        name: value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        for name, value in metrics.items()
    }
