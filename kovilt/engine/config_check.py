"""Compares the top level of a config with what a run reads, and each component in it with its constructor."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from kovilt import registry as reg
from kovilt.engine.component_check import (
    REGISTRY_OF_ARGUMENT,
    arguments_of,
    check_component,
    check_is_dict,
    check_keys,
    check_value,
    find_type,
)
from kovilt.errors import KoviltError, nearest

# Top-level keys that are no argument of MMEngine's Runner but read by it; the last one is read by KoviltRunner.
KEYS_BESIDE_RUNNER = (
    'runner_type',
    'custom_imports',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'compile',
    'activation_checkpointing',
    'load_encoder_only',
)

# Top-level keys with a dict of fixed keys.
FIXED_KEYS = {
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}

# Top-level keys with a component, `dict(type=...)`, or a list of them: the registry, and the type if none is given.
COMPONENTS: dict[str, tuple[Registry, str | None]] = {
    'model': (reg.MODELS, None),
    'data_preprocessor': (reg.MODELS, None),
    'model_wrapper_cfg': (reg.MODEL_WRAPPERS, 'KoviltDistributedDataParallel'),
    'param_scheduler': (reg.PARAM_SCHEDULERS, None),
    'custom_hooks': (reg.HOOKS, None),
    'val_cfg': (reg.LOOPS, 'ValLoop'),
    'test_cfg': (reg.LOOPS, 'TestLoop'),
    'val_evaluator': (reg.METRICS, None),
    'test_evaluator': (reg.METRICS, None),
    'visualizer': (reg.VISUALIZERS, 'Visualizer'),
    'log_processor': (reg.LOG_PROCESSORS, 'LogProcessor'),
}
LISTS = ('param_scheduler', 'custom_hooks', 'val_evaluator', 'test_evaluator')

DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')  # have a type


@functools.cache
def top_level_keys() -> frozenset[str]:
    """The keys that may stand at the top of a config."""
    return frozenset({*arguments_of(Runner)[0], *KEYS_BESIDE_RUNNER} - {'cfg'})


def check_config(config: Mapping[str, Any]) -> None:
    """Raise KoviltError for the first key of a config that no constructor would take as it stands.

    `load_config` has refused keys at the top that no part of a run reads.
    """
    for key, value in config.items():
        if value is None:
            continue
        if key in LISTS and isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                check_component(item, f'{key}.{i}', COMPONENTS[key][0])
        elif key.endswith('_evaluator') and isinstance(value, Mapping) and 'metrics' in value:
            check_component(value, key, reg.EVALUATOR, 'Evaluator')
        elif key in COMPONENTS:
            check_component(value, key, *COMPONENTS[key])
        elif key.endswith('_dataloader'):
            _check_dataloader(value, key)
        elif key == 'train_cfg':
            check_is_dict(value, key)
            if 'type' not in value and 'by_epoch' not in value:
                raise KoviltError("train_cfg: missing key 'by_epoch' or 'type'")
            check_component(value, key, reg.LOOPS, 'EpochTrainLoop' if value.get('by_epoch') else 'StepTrainLoop')
        elif key == 'optim_wrapper':
            _check_optim_wrapper(value, key)
        elif key == 'default_hooks':
            _check_default_hooks(value, key)
        elif key in FIXED_KEYS:
            check_keys(value, key, FIXED_KEYS[key])
    if 'model' not in config:
        raise KoviltError("the config has no 'model'")
    _check_checkpoint_unit(config)


def _check_dataloader(node: Any, path: str) -> None:
    check_keys(node, path, (*arguments_of(DataLoader)[0], 'num_batch_per_epoch'))
    for key in ('dataset', 'sampler', 'batch_size'):
        if key not in node:
            raise KoviltError(f'{path}: missing key {key!r}')
    for key, value in node.items():
        if key in REGISTRY_OF_ARGUMENT:
            check_component(value, f'{path}.{key}', REGISTRY_OF_ARGUMENT[key])
        elif key in ('batch_size', 'num_workers'):
            least = 1 if key == 'batch_size' else 0
            check_value(value, int, f'{path}.{key}')
            if value < least:
                raise KoviltError(f'{path}.{key} is {value}; it must be at least {least}')


def _check_optim_wrapper(node: Any, path: str) -> None:
    check_is_dict(node, path)
    if 'optimizer' not in node:
        raise KoviltError(f"{path}: missing key 'optimizer'")
    if node.get('constructor') is not None:
        find_type(node['constructor'], f'{path}.constructor', reg.OPTIM_WRAPPER_CONSTRUCTORS)
    check_component(node['optimizer'], f'{path}.optimizer', reg.OPTIMIZERS)
    check_component(node, path, reg.OPTIM_WRAPPERS, 'OptimWrapper')


def _check_default_hooks(node: Any, path: str) -> None:
    check_is_dict(node, path)
    for name, hook in node.items():
        if isinstance(hook, Mapping) and name not in DEFAULT_HOOKS and 'type' not in hook:
            raise KoviltError(f"{path}.{name}: missing key 'type'{nearest(name, DEFAULT_HOOKS)}")
        if hook is not None:
            check_component(hook, f'{path}.{name}', reg.HOOKS)


def _check_checkpoint_unit(config: Mapping[str, Any]) -> None:
    """A run counted in epochs can only be resumed at the end of an epoch, a run counted in steps at any step."""
    loop, hook = config.get('train_cfg'), (config.get('default_hooks') or {}).get('checkpoint')
    if not loop or not hook:
        return
    run_by_epoch = bool(loop.get('by_epoch', loop.get('type') in ('EpochTrainLoop', 'EpochBasedTrainLoop')))
    hook_by_epoch = hook.get('by_epoch', True)
    if run_by_epoch != hook_by_epoch:
        raise KoviltError(
            f'default_hooks.checkpoint.by_epoch is {hook_by_epoch}, but train_cfg counts '
            f'{"epochs" if run_by_epoch else "steps"}; such checkpoints cannot be resumed from: make them agree'
        )
