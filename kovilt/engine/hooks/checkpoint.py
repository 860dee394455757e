"""Saving checkpoints so that one that is complete and verified is there at every moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine import hooks as mmengine_hooks
from mmengine.runner import Runner

from kovilt.errors import KoviltError
from kovilt.files import write_text
from kovilt.formats.checkpoint import POINTER_FILE
from kovilt.registry import HOOKS

_NUMBERED = re.compile(r'(?:epoch|iter)_\d+\.pth')


@HOOKS.register_module()
class CheckpointHook(mmengine_hooks.CheckpointHook):
    """MMEngine's CheckpointHook, which saves first and removes older checkpoints afterwards.

    MMEngine's removes the older one first, so that a full disk or a kill in between leaves none; it does so with the
    best checkpoint too. At least two are kept, as the last may be the one that is being written. Arguments are as in
    MMEngine; there is no remote storage, and no `published_keys`: `kovilt export` publishes a model.
    """

    def before_train(self, runner: Runner) -> None:
        """Take up the record of earlier checkpoints from a resumed run, and remove what a killed run left."""
        if self.max_keep_ckpts == 1:
            raise KoviltError('default_hooks.checkpoint.max_keep_ckpts is 1; the last one may be damaged: keep 2 or -1')
        self.out_dir = runner.work_dir
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if runner.rank == 0:
            for draft in Path(self.out_dir).glob('.*.tmp'):
                draft.unlink(missing_ok=True)

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
        kept = [one for one in runner.message_hub.runtime_info.get('keep_ckpt_ids', []) if one != step]
        kept = [*kept, step][-self.max_keep_ckpts :] if self.max_keep_ckpts > 0 else [*kept, step]
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        path = Path(self.out_dir, self.filename_tmpl.format(step))
        self.last_ckpt = str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            path.name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if runner.rank:
            return
        write_text(Path(self.out_dir, POINTER_FILE), path.name)
        if self.max_keep_ckpts > 0:
            names = {self.filename_tmpl.format(one) for one in kept}
            for other in Path(self.out_dir).glob('*.pth'):
                if _NUMBERED.fullmatch(other.name) and other.name not in names:
                    _remove(other)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if self.save_best and 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        meta = {'epoch': runner.epoch, 'iter': runner.iter}
        replaced: list[str | None] = []
        for name, rule, ending in self._monitored(runner):
            if not self._is_best(runner, name, rule, ending, metrics):
                continue
            path = Path(self.out_dir, f'best_{name}_{self.filename_tmpl.format(step)}'.replace('/', '_'))
            replaced.append(runner.message_hub.runtime_info.get(f'best_ckpt{ending}'))
            runner.message_hub.update_info(f'best_score{ending}', metrics[name])
            runner.message_hub.update_info(f'best_ckpt{ending}', str(path))
            runner.save_checkpoint(
                self.out_dir, path.name, save_optimizer=False, save_param_scheduler=False, meta=meta, by_epoch=False
            )
            runner.logger.info(f'the best checkpoint, {name} {metrics[name]:.4f}, is {path.name}')
        if not replaced:
            return
        self._save_checkpoint_with_step(runner, step, meta)  # again: its record has to name the new best one
        for old in replaced if runner.rank == 0 else ():
            if old:
                _remove(Path(self.out_dir, Path(old).name))


def _remove(path: Path) -> None:
    with suppress(OSError):  # an old checkpoint that cannot be removed does not end a training
        path.unlink()
