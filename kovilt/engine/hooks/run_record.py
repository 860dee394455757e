"""The record of a run in its work folder: what it ran on, and every number it watched."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.utils import get_git_hash

import kovilt
from kovilt.engine.optim import watched
from kovilt.registry import HOOKS

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'transformers', 'tokenizers', 'numpy', 'pillow')


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes `environment.json`, `data.json` and `metrics.jsonl` into the work folder, from rank 0.

    `metrics.jsonl` holds one JSON object a line: `mode` "train" every `interval` steps, the mean of everything the
    model returned over those steps and all processes, with the learning rate; "val" after each evaluation; "epoch"
    with the time of an epoch. `step` counts optimizer steps. A resumed run drops the lines that lie ahead of it and
    goes on.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.path = Path(runner.work_dir) / 'metrics.jsonl'
        if is_main_process():
            write_json(Path(runner.work_dir) / 'environment.json', environment(runner))
            write_json(Path(runner.work_dir) / 'data.json', self._data(runner))
            self._keep_until(runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        for name, value in watched(runner, outputs).items():
            self.sums[name] = self.sums.get(name, 0) + value.double()
        self.count += 1
        if (runner.iter + 1) % self.interval == 0 or runner.iter + 1 == runner.max_iters:
            self._flush(runner, runner.iter + 1)

    def after_train(self, runner) -> None:
        if is_main_process():  # again: by now it knows which images were broken
            write_json(Path(runner.work_dir) / 'data.json', self._data(runner))

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if metrics and hasattr(self, 'path'):
            self._write({'mode': 'val', 'step': runner.iter, 'epoch': runner.epoch, **numbers(metrics)})

    def after_train_epoch(self, runner) -> None:
        if self.count:
            self._flush(runner, runner.iter)
        times = runner.message_hub.runtime_info.get('epoch_time', {})
        self._write({'mode': 'epoch', 'step': runner.iter, 'epoch': runner.epoch, **times})

    def _flush(self, runner, step: int) -> None:
        names = sorted(self.sums)
        means = torch.stack([self.sums[name] for name in names]) / self.count
        all_reduce(means, op='mean')
        lr = {
            f'lr/{group.get("name", i)}': group['lr']
            for i, group in enumerate(runner.optim_wrapper.optimizer.param_groups)
        }
        self._write(
            {
                'mode': 'train',
                'step': step,
                'epoch': runner.epoch,
                **dict(zip(names, means.tolist(), strict=True)),
                **lr,
            }
        )
        self.sums, self.count = {}, 0

    def _write(self, line: dict) -> None:
        if is_main_process():
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(json.dumps({**line, 'time': round(time.time(), 1)}, ensure_ascii=False) + '\n')

    def _keep_until(self, step: int) -> None:
        """Drops lines after `step`: a fresh run starts an empty record, a resumed one drops what it will repeat."""
        kept = []
        if self.path.is_file() and step:
            kept = [
                line
                for line in self.path.read_text(encoding='utf-8').splitlines()
                if line.endswith('}') and json.loads(line)['step'] <= step
            ]
        part = self.path.with_name('.metrics.jsonl.part')
        part.write_text(''.join(line + '\n' for line in kept), encoding='utf-8')
        os.replace(part, self.path)

    @staticmethod
    def _data(runner) -> dict[str, Any]:
        loaders = {'train': runner.train_dataloader}
        if runner.val_loop is not None:
            loaders['val'] = runner.val_dataloader
        return {name: describe_data(loader.dataset) for name, loader in loaders.items()}


def describe_data(dataset) -> dict[str, Any]:
    """Class and rows of a dataset, and what its own `summary()` says (files, digests, counts) if it has one."""
    summary = getattr(dataset, 'summary', None)
    return {'type': type(dataset).__name__, 'rows': len(dataset), **(summary() if callable(summary) else {})}


def environment(runner) -> dict[str, Any]:
    """What a run needs to be understood later: command, versions, seed, machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        'command': sys.argv,
        'started': time.strftime('%Y-%m-%d %H:%M:%S'),
        'kovilt': kovilt.__version__,
        'git': get_git_hash(fallback='', digits=12),
        'seed': runner.seed,
        'processes': runner.world_size,
        'python': platform.python_version(),
        'packages': versions,
        'machine': platform.platform(),
        'cpus': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def numbers(metrics: dict) -> dict[str, Any]:
    """The metrics that JSON can hold: numbers, text, and lists and dicts of them."""
    return {
        name: value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        for name, value in metrics.items()
    }


def write_json(path: Path, value: Any) -> None:
    """Writes beside `path` and moves into place."""
    part = path.with_name(f'.{path.name}.part')
    part.write_text(json.dumps(value, ensure_ascii=False, indent=2) + '\n', encoding='utf-8')
    os.replace(part, path)
