"""Saving checkpoints so that one that is complete and verified is there at every moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine import hooks as mmengine_hooks
from mmengine.runner import Runner

from kovilt.errors import KoviltError
from kovilt.files import write_text
from kovilt.formats.checkpoint import POINTER_FILE, write_checkpoint
from kovilt.registry import HOOKS

_RESUMING = 'optimizer', 'param_schedulers'  # what only a checkpoint to resume from holds
_NUMBERED = re.compile(r'(?:epoch|iter)_\d+\.pth')


@HOOKS.register_module()
class CheckpointHook(mmengine_hooks.CheckpointHook):
    """MMEngine's CheckpointHook, which writes while the training goes on, saves first and removes afterwards.

    MMEngine's removes the older checkpoint first, so that a full disk or a kill in between leaves none; it does so with
    the best checkpoint too. Here the file that names the latest checkpoint changes, and older ones go, when the new one
    is complete. At least two are kept, as the last may be the one that is being written.

    Args:
        background: a thread writes the file. The training then waits only until the tensors are copied, which takes as
            much host memory as the checkpoint has bytes. False = the training waits for the file.
        arguments: as in MMEngine; there is no remote storage, and no `published_keys`: `kovilt export` publishes a
            model.
    """

    def __init__(self, *, background: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.background = background

    def before_train(self, runner: Runner) -> None:
        """Take up the record of earlier checkpoints from a resumed run, and remove what a killed run left."""
        if self.max_keep_ckpts == 1:
            raise KoviltError('default_hooks.checkpoint.max_keep_ckpts is 1; the last one may be damaged: keep 2 or -1')
        self.out_dir = runner.work_dir
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if runner.rank == 0:
            for draft in Path(self.out_dir).glob('.*.tmp'):
                if not draft.is_dir():  # of a model folder, which the next one to be written there removes
                    draft.unlink(missing_ok=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        runner.writer.check()
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner: Runner) -> None:
        """Nothing is published here."""

    def is_recorded(self, runner: Runner, metrics: Mapping[str, Any]) -> bool:
        """Whether the state of the run knows of these metrics: none of them is better than the best that it records."""
        return not any(self._is_best(runner, *one, metrics) for one in self._monitored(runner))

    def _monitored(self, runner: Runner) -> list[tuple[str, str, str]]:
        """Name, rule and the ending of the record's keys of each metric whose best checkpoint is kept."""
        if not self.save_best or 'auto' in self.key_indicators:
            return []
        pairs = zip(self.key_indicators, self.rules, strict=True)
        return [(name, rule, f'_{name}' if len(self.rules) > 1 else '') for name, rule in pairs]

    def _is_best(self, runner: Runner, name: str, rule: str, ending: str, metrics: Mapping[str, Any]) -> bool:
        best = runner.message_hub.runtime_info.get(f'best_score{ending}', self.init_value_map[rule])
        score = metrics.get(name)
        return score is not None and bool(self.is_better_than[name](score, best))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self._submit(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        runner.writer.wait()  # if the last one could not be written, the best score is again that of an earlier one
        if self.save_best and 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        info = runner.message_hub.runtime_info
        before = {key: value for key, value in info.items() if key.startswith('best_')}
        best: dict[Path, str] = {}  # with a line for the log
        for name, rule, ending in self._monitored(runner):
            if self._is_best(runner, name, rule, ending, metrics):
                path = Path(self.out_dir, f'best_{name}_{self.filename_tmpl.format(step)}'.replace('/', '_'))
                best[path] = f'the best checkpoint, {name} {metrics[name]:.4f}, is {path.name}'
                info |= {f'best_score{ending}': metrics[name], f'best_ckpt{ending}': str(path)}
        if best:  # with the checkpoint of this step again: its record has to name the new best one
            self._submit(runner, step, {'epoch': runner.epoch, 'iter': runner.iter}, best, before)

    def _submit(
        self,
        runner: Runner,
        step: int,
        meta: dict[str, Any],
        best: Mapping[Path, str] = MappingProxyType({}),
        before: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write the best checkpoints and then that of the step; `before` is the record of the best ones until now."""
        runner.writer.wait()
        info = runner.message_hub.runtime_info
        # Without those that could not be written, or each failure would cost one that is whole.
        numbers = [one for one in info.get('keep_ckpt_ids', []) if one != step and self._path(one).is_file()]
        numbers = [*numbers, step][-self.max_keep_ckpts :] if self.max_keep_ckpts > 0 else [*numbers, step]
        path = self._path(step)
        self.last_ckpt = str(path)
        info |= {'keep_ckpt_ids': numbers, 'last_ckpt': self.last_ckpt}
        if runner.rank:
            return
        kept = {self._path(one).name for one in numbers}
        former, still_best = self._best_files(before), self._best_files(info)

        def write(checkpoint: dict[str, Any]) -> None:
            for best_path, line in best.items():
                weights = {key: value for key, value in checkpoint.items() if key not in _RESUMING}
                write_checkpoint(weights, best_path)
                runner.logger.info(line)
            write_checkpoint(checkpoint, path)
            write_text(Path(self.out_dir, POINTER_FILE), path.name)
            outdated = [one for one in Path(self.out_dir).glob('*.pth') if _NUMBERED.fullmatch(one.name)]
            outdated = [one for one in outdated if one.name not in kept] if self.max_keep_ckpts > 0 else []
            for old in (*outdated, *(former - still_best)):
                _remove(old)

        def undo() -> None:
            if best:
                for key in [key for key in info if key.startswith('best_')]:
                    del info[key]
                info.update(before)
                for one in best.keys() - former:
                    _remove(one)

        runner.writer.submit(
            runner.collect_checkpoint(meta, optimizer=self.save_optimizer, schedules=self.save_param_scheduler),
            write,
            name=path.name,
            undo=undo,
            background=self.background,
        )

    def _best_files(self, info: Mapping[str, Any]) -> set[Path]:
        """The files that a record calls the best, in the work folder."""
        names = [Path(path).name for key, path in info.items() if key.startswith('best_ckpt') and path]
        return {Path(self.out_dir, name) for name in names}

    def _path(self, step: int) -> Path:
        return Path(self.out_dir, self.filename_tmpl.format(step))


def _remove(path: Path) -> None:
    with suppress(OSError):  # an old checkpoint that cannot be removed does not end a training
        path.unlink()
