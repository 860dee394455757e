"""What has changed between the run that wrote a checkpoint and the one that resumes from it.

A change that cannot change the weights or the scores passes. Any other one is refused unless `--allow-change` names its
key, or a key above it. Those of `_FIXED` are always refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, NamedTuple

from kovilt.errors import KoviltError, nearest
from kovilt.formats.report import shorten_list

# What may change between save and resume, `*` = any text. docs/en/interrupted.md has this table.
_WITHOUT_EFFECT = (
    'train_cfg.max_epochs',  # the length; the schedules follow it
    'train_cfg.max_iters',
    'train_cfg.val_begin',
    'train_cfg.val_interval',
    'train_dataloader.batch_size',  # `pairs_per_step` is compared
    'val_dataloader.batch_size',
    'test_*',
    *(
        f'*_dataloader.{key}'
        for key in (
            'num_workers',
            'persistent_workers',
            'prefetch_factor',
            'pin_memory',
            'pin_memory_device',
            'timeout',
            'multiprocessing_context',
            'collate_fn.micro_batches',
            'dataset.cache_images',
            'dataset.max_broken_fraction',
            'dataset.reader.allow_outside',
        )
    ),
    *(f'default_hooks.{hook}*' for hook in ('logger', 'run_record', 'epoch_time', 'interrupt', 'nonfinite', 'timer')),
    *(
        f'default_hooks.checkpoint.{key}'
        for key in ('interval', 'max_keep_ckpts', 'save_begin', 'save_last', 'filename_tmpl', 'background')
    ),
    'model*.with_cp',
    '*.pretrained',  # where the first weights came from
    '*.image_encoder_weights',
    '*.init_cfg*',
    'load_encoder_only',
    'on_save_error',
    'compile*',
    'activation_checkpointing*',
    'find_unused_parameters',
    'model_wrapper_cfg*',
    'custom_imports*',  # `code.plugins` is compared
    'env_cfg*',
    'log_level',
    'log_processor*',
    'visualizer*',
    'experiment_name',
    'default_scope',
    'runner_type',
)
_IS_WITHOUT_EFFECT = re.compile('|'.join(map(translate, _WITHOUT_EFFECT))).match
_FIXED = ('answers', 'vocabulary')  # the weights are those of these classes and tokens
# What decides the learning rate and the other values of the optimizer at a step.
_COURSE = (
    'optim_wrapper.optimizer',
    'optim_wrapper.paramwise_cfg',
    'param_scheduler',
    'auto_scale_lr',
    'pairs_per_step',
    'train_cfg.max_epochs',
    'train_cfg.max_iters',
    'train_dataloader.drop_last',
    'data.train.rows',
)
# What decides the scores of validations, and which of them are the best.
_SCORES = (
    'data.val',
    'val_dataloader',
    'val_evaluator',
    'val_cfg',
    'default_hooks.checkpoint.save_best',
    'default_hooks.checkpoint.rule',
)
_NOT_SET = 'not set'


class Change(NamedTuple):
    """A key whose value differs: as text, before and now."""

    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f'{self.key} was {self.before}, is {self.now}'

    @property
    def matters(self) -> bool:
        """Whether it can change the weights or the scores."""
        return not _IS_WITHOUT_EFFECT(self.key)


def find_changes(before: Mapping[str, Any], now: Mapping[str, Any], *, processes: int = 1) -> list[Change]:
    """The differences between what two runs are made of (`collect_run_facts`), by key in alphabetical order.

    `processes` is the number of those that train now.
    """
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key, ...) != now.get(key, ...))
    # Other rows have other images.
    keys = [key for key in keys if not (key.endswith('.images') and f'{key.removesuffix("images")}rows' in keys)]
    hints = {'randomness.seed': f' (--seed {before.get("randomness.seed")} keeps it)'}
    if 'pairs_per_step' in keys:
        size, rest = divmod(before['pairs_per_step'], processes)
        hint = f'{processes} processes cannot share them' if rest else f'train_dataloader.batch_size={size} keeps them'
        hints['pairs_per_step'] = f' ({hint})'
    return [Change(key, _show(before, key), _show(now, key) + hints.get(key, '')) for key in keys]


def check_allowed_keys(allowed: Iterable[str], keys: Iterable[str]) -> None:
    """KoviltError unless each KEY of `--allow-change` is one of `keys`, or stands above one."""
    known = {'.'.join(parts[: n + 1]): None for parts in (key.split('.') for key in keys) for n in range(len(parts))}
    for key in allowed:
        if key not in known:
            raise KoviltError(
                f'--allow-change {key}: nothing that a run is made of has this key{nearest(key, known)}; '
                'kovilt config CONFIG lists the keys'
            )


def check_changes(changes: Sequence[Change], allowed: Sequence[str], source: str) -> None:
    """Refuse changes that are not allowed.

    Args:
        allowed: the keys of `--allow-change`; each also stands for the keys below it.
        source: the checkpoint, for messages.

    Raises:
        KoviltError: names every change and the options that go on.
    """
    fixed = [change for change in changes if change.key in _FIXED]
    refused = [change for change in changes if change.matters and not is_below(change.key, allowed) or change in fixed]
    if not refused:
        return
    found = f'{source}: since it was saved, {"; ".join(map(str, refused))}'
    if fixed:
        names = ' and '.join(change.key for change in fixed)
        raise KoviltError(f'{found}: {names} cannot change within a run; restore, or start anew with --load-from')
    options = ' '.join(f'--allow-change {change.key}' for change in refused)
    raise KoviltError(f'{found}: restore what it was, or go on with {options}')


def describe_changes(changes: Iterable[Change], limit: int = 5) -> str:
    """Some of the changes as text."""
    return shorten_list(map(str, changes), limit, '; ')


def changes_course(changes: Iterable[Change]) -> bool:
    """Whether a change concerns the learning rate or another value of the optimizer."""
    return any(is_below(change.key, _COURSE) for change in changes)


def changes_scores(changes: Iterable[Change]) -> bool:
    """Whether a change makes earlier scores incomparable with later ones."""
    return any(change.matters and is_below(change.key, _SCORES) for change in changes)


def is_below(key: str, tops: Iterable[str]) -> bool:
    """Whether a dotted key is one of `tops` or lies below one."""
    return any(key == top or key.startswith(f'{top}.') for top in tops)


def _show(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else _NOT_SET
    return text if len(text) <= 60 else f'{text[:60]}...'
