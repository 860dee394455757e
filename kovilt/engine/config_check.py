"""Compares the top level of a config with what a run reads, and each component in it with its constructor."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
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
    find_type,
)
from kovilt.engine.foreign_ranges import DATALOADER, hint_of, is_foreign
from kovilt.engine.monitor_check import check_monitors, hooks_of
from kovilt.engine.run_files import OnSaveError
from kovilt.errors import KoviltError, config_errors, nearest
from kovilt.ranges import Count, Index, Positive, Seed, check_value

# Top-level keys that are no argument of MMEngine's Runner but read by it; the last two are read by KoviltRunner.
KEYS_BESIDE_RUNNER = (
    'runner_type',
    'custom_imports',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'compile',
    'activation_checkpointing',
    'load_encoder_only',
    'on_save_error',
)


class Randomness(TypedDict, total=False):
    """Arguments of MMEngine's `set_random_seed`."""

    seed: Seed | None
    diff_rank_seed: bool
    deterministic: bool


class Multiprocessing(TypedDict, total=False):
    """How workers of the data loader start."""

    mp_start_method: Literal['fork', 'spawn', 'forkserver']
    opencv_num_threads: Index


class Processes(TypedDict, total=False):
    """How several processes work together; see `join_processes`."""

    backend: Literal['nccl', 'gloo']
    timeout: Positive | None
    join_timeout: Positive


class Environment(TypedDict, total=False):
    """What MMEngine sets up before it builds anything."""

    cudnn_benchmark: bool
    mp_cfg: Multiprocessing
    dist_cfg: Processes
    resource_limit: Count


class ScaledLearningRate(TypedDict, total=False):
    """The batch size that the learning rate is meant for."""

    enable: bool
    base_batch_size: Count


class Imports(TypedDict, total=False):
    """Modules that register components."""

    imports: str | list[str]
    allow_failed_imports: bool


# Top-level keys that hold no component, and what they may be.
PLAIN_KEYS: dict[str, Any] = {
    'randomness': Randomness,
    'env_cfg': Environment,
    'auto_scale_lr': ScaledLearningRate,
    'custom_imports': Imports,
    'custom_hooks': list,
    'compile': bool | dict,
    'find_unused_parameters': bool,
    'load_encoder_only': bool,
    'on_save_error': OnSaveError,
    'default_scope': str,
    'runner_type': str,
    'work_dir': Path,
    'load_from': Path,
    'resume': bool | Literal['auto'],
    'launcher': Literal['none', 'pytorch', 'slurm', 'mpi'],
    'log_level': Literal['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'] | Index,
    'experiment_name': str,
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
        _check_plain(value, key)
        if key in PLAIN_KEYS:
            check_value(key, value, PLAIN_KEYS[key])
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
    if 'model' not in config:
        raise KoviltError("the config has no 'model'")
    _check_loss_weights(config['model'])
    _check_teacher(config)
    _check_checkpoint_unit(config)
    check_monitors(config)
    _check_schedules(config)


def _check_plain(node: Any, path: str) -> None:
    """Refuse numbers that no run can use, and those of NumPy or torch, which checkpoints and logs cannot write."""
    if isinstance(node, (Mapping, list, tuple)):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            _check_plain(value, f'{path}.{key}')
    elif hasattr(node, 'dtype') and hasattr(node, 'tolist'):
        raise KoviltError(f'{path} is a {type(node).__name__}; write a number or a list of Python')
    elif isinstance(node, float) and math.isnan(node):
        raise KoviltError(f'{path} is {node}, which is no number')


def _check_loss_weights(model: Any) -> None:
    weights = {
        f'model.{name}.loss_weight': head['loss_weight']
        for name, head in (model.items() if isinstance(model, Mapping) else ())
        if isinstance(head, Mapping) and 'loss_weight' in head
    }
    if weights and not any(weights.values()):
        raise KoviltError(f'{" and ".join(weights)}: 0, so nothing is trained; give one a weight above 0')


def _check_teacher(config: Mapping[str, Any]) -> None:
    """Refuse a student without a teacher's scores before the data is opened; the model sees it only in a batch."""
    model, loader = config['model'], config.get('train_dataloader')
    head = model.get('vqa_head') if isinstance(model, Mapping) else None
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    if isinstance(head, Mapping) and head.get('distillation_weight') and isinstance(dataset, Mapping):
        if 'reader' in dataset and not dataset.get('teacher_answers'):
            raise KoviltError(
                f"model.vqa_head.distillation_weight is {head['distillation_weight']}, which needs a teacher's scores; "
                'give train_dataloader.dataset.teacher_answers, a file of kovilt distill'
            )


def _check_dataloader(node: Any, path: str) -> None:
    check_keys(node, path, (*arguments_of(DataLoader)[0], 'num_batch_per_epoch'))
    for key in ('dataset', 'sampler', 'batch_size'):
        if key not in node:
            raise KoviltError(f'{path}: missing key {key!r}')
    for key, value in node.items():
        if key in REGISTRY_OF_ARGUMENT:
            check_component(value, f'{path}.{key}', REGISTRY_OF_ARGUMENT[key])
        elif key in DATALOADER:
            check_value(f'{path}.{key}', value, DATALOADER[key])


def _check_optim_wrapper(node: Any, path: str) -> None:
    check_is_dict(node, path)
    if 'optimizer' not in node:
        raise KoviltError(f"{path}: missing key 'optimizer'")
    name = node.get('constructor') or 'DefaultOptimWrapperConstructor'
    constructor = find_type(name, f'{path}.constructor', reg.OPTIM_WRAPPER_CONSTRUCTORS)
    if (argument := arguments_of(constructor)[0].get('paramwise_cfg')) is not None:
        hint = hint_of(constructor, reg.OPTIM_WRAPPER_CONSTRUCTORS, argument)
        check_value(f'{path}.paramwise_cfg', node.get('paramwise_cfg'), hint)
    check_component(node['optimizer'], f'{path}.optimizer', reg.OPTIMIZERS)
    check_component(node, path, reg.OPTIM_WRAPPERS, 'OptimWrapper')


def _check_default_hooks(node: Any, path: str) -> None:
    check_is_dict(node, path)
    for name, hook in node.items():
        if isinstance(hook, Mapping) and name not in DEFAULT_HOOKS and 'type' not in hook:
            raise KoviltError(f"{path}.{name}: missing key 'type'{nearest(name, DEFAULT_HOOKS)}")
        if hook is not None:
            check_component(hook, f'{path}.{name}', reg.HOOKS)


def _check_schedules(config: Mapping[str, Any]) -> None:
    """Build MMEngine's hooks, torch's optimizer and the schedules once, so that their own checks come first."""
    for path, hook in hooks_of(config):
        kind = find_type(hook['type'], path, reg.HOOKS)
        bases = [base for base in getattr(kind, '__mro__', ()) if '__init__' in vars(base) and base is not object]
        if any(map(is_foreign, bases or [kind])):  # an own hook may pass its arguments on to a foreign one
            with config_errors(path):
                reg.HOOKS.build({key: value for key, value in hook.items() if key != 'priority'})
    wrapper, schedules = config.get('optim_wrapper'), config.get('param_scheduler')
    if not wrapper:
        return
    parameter = torch.nn.Parameter(torch.zeros(1, 1))
    with config_errors('optim_wrapper.optimizer'):
        optimizer = reg.OPTIMIZERS.build({**wrapper['optimizer'], 'params': [{'params': [parameter]}]})
    for number, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        path = f'param_scheduler.{number}' if isinstance(schedules, (list, tuple)) else 'param_scheduler'
        if schedule is not None and is_foreign(find_type(schedule['type'], path, reg.PARAM_SCHEDULERS)):
            arguments = {key: value for key, value in schedule.items() if key != 'convert_to_iter_based'}
            with config_errors(path):
                reg.PARAM_SCHEDULERS.build({'end': 1_000, **arguments, 'optimizer': optimizer})


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
