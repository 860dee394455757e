"""Compares a config with the constructors it calls: unknown keys and types, missing keys, values of a wrong type."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union

from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from kovilt import registry as reg
from kovilt.engine.signatures import signature_of
from kovilt.errors import KoviltError, nearest

# Top-level keys that are no argument of MMEngine's Runner: MMEngine reads them elsewhere, the last two are kovilt's.
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

# Components inside another one are looked up in its registry, but for those under these arguments.
REGISTRY_OF_ARGUMENT = {
    'dataset': reg.DATASETS,
    'datasets': reg.DATASETS,
    'image_pipeline': reg.TRANSFORMS,
    'text_pipeline': reg.TRANSFORMS,
    'pipeline': reg.TRANSFORMS,
    'transforms': reg.TRANSFORMS,
    'sampler': reg.DATA_SAMPLERS,
    'batch_sampler': reg.DATA_SAMPLERS,
    'collate_fn': reg.FUNCTIONS,
    'worker_init_fn': reg.FUNCTIONS,
    'metrics': reg.METRICS,
    'vis_backends': reg.VISBACKENDS,
    'init_cfg': reg.WEIGHT_INITIALIZERS,
    'optimizer': reg.OPTIMIZERS,
}

# Keys that MMEngine reads itself before it calls the constructor.
KEYS_BESIDE_ARGUMENTS = {
    reg.HOOKS: ('priority',),
    reg.LOOPS: ('by_epoch',),
    reg.PARAM_SCHEDULERS: ('convert_to_iter_based',),
    reg.OPTIM_WRAPPERS: ('constructor', 'paramwise_cfg'),
}

# The registries whose components are refused when an argument without a default is missing, with the arguments that
# the framework adds itself.
ADDED_BY_FRAMEWORK: dict[Registry, tuple[str, ...]] = {
    reg.DATASETS: (),
    reg.TRANSFORMS: (),
    reg.HOOKS: (),
    reg.METRICS: (),
    reg.LOOPS: ('runner', 'dataloader', 'evaluator'),
    reg.DATA_SAMPLERS: ('dataset', 'seed', 'sampler', 'batch_size'),
}

DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')  # have a type
FROM_DATA = ('num_answers', 'vocab_size', 'mask_token_id', 'special_token_ids')  # None: KoviltRunner asks the data


@functools.cache
def top_level_keys() -> frozenset[str]:
    """The keys that may stand at the top of a config."""
    return frozenset(signature_of(Runner).names) - {'cfg'} | set(KEYS_BESIDE_RUNNER)


def check_config(config: Mapping[str, Any]) -> None:
    """Raise KoviltError for the first key of a config that no constructor would take as it stands.

    Names at the top that no part of a run reads are not looked at: `load_config` has compared them with their use.
    """
    for key, value in config.items():
        if value is None:
            continue
        if key in COMPONENTS:
            _check_component_key(value, key)
        elif key.endswith('_dataloader'):
            _check_dataloader(value, key)
        elif key == 'train_cfg':
            _check_train_loop(value, key)
        elif key == 'optim_wrapper':
            _check_optim_wrapper(value, key)
        elif key == 'default_hooks':
            _check_default_hooks(value, key)
        elif key in FIXED_KEYS:
            _check_keys(value, key, FIXED_KEYS[key])
    if 'model' not in config:
        raise KoviltError("the config has no 'model'")
    _check_checkpoint_unit(config)


# What stands at the top of a config


def _check_component_key(node: Any, key: str) -> None:
    registry, default = COMPONENTS[key]
    if key.endswith('_evaluator') and isinstance(node, Mapping) and 'metrics' in node:
        registry, default = reg.EVALUATOR, 'Evaluator'
    if key in LISTS and isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            check_component(item, f'{key}.{i}', registry)
    else:
        check_component(node, key, registry, default)


def _check_dataloader(node: Any, path: str) -> None:
    _check_keys(node, path, (*signature_of(DataLoader).names, 'num_batch_per_epoch'))
    for key in ('dataset', 'sampler', 'batch_size'):
        if key not in node:
            raise KoviltError(f'{path}: missing key {key!r}')
    for key, value in node.items():
        if key in REGISTRY_OF_ARGUMENT:
            check_component(value, f'{path}.{key}', REGISTRY_OF_ARGUMENT[key])
        elif key in ('batch_size', 'num_workers'):
            least = 1 if key == 'batch_size' else 0
            _check_value(value, int, f'{path}.{key}')
            if value < least:
                raise KoviltError(f'{path}.{key} is {value}; it must be at least {least}')


def _check_train_loop(node: Any, path: str) -> None:
    _check_is_dict(node, path)
    if 'type' not in node and 'by_epoch' not in node:
        raise KoviltError(f"{path}: missing key 'by_epoch' or 'type'")
    check_component(node, path, reg.LOOPS, 'EpochBasedTrainLoop' if node.get('by_epoch') else 'StepTrainLoop')


def _check_optim_wrapper(node: Any, path: str) -> None:
    _check_is_dict(node, path)
    if 'optimizer' not in node:
        raise KoviltError(f"{path}: missing key 'optimizer'")
    if node.get('constructor') is not None:
        _find_type(node['constructor'], f'{path}.constructor', reg.OPTIM_WRAPPER_CONSTRUCTORS)
    check_component(node['optimizer'], f'{path}.optimizer', reg.OPTIMIZERS)
    check_component(node, path, reg.OPTIM_WRAPPERS, 'OptimWrapper')


def _check_default_hooks(node: Any, path: str) -> None:
    _check_is_dict(node, path)
    for name, hook in node.items():
        if hook is None:
            continue
        _check_is_dict(hook, f'{path}.{name}')
        if name not in DEFAULT_HOOKS and 'type' not in hook:
            raise KoviltError(f"{path}.{name}: missing key 'type'{nearest(name, DEFAULT_HOOKS)}")
        check_component(hook, f'{path}.{name}', reg.HOOKS)


def _check_checkpoint_unit(config: Mapping[str, Any]) -> None:
    """A run counted in epochs can only be resumed at the end of an epoch, a run counted in steps at any step."""
    loop, hook = config.get('train_cfg'), (config.get('default_hooks') or {}).get('checkpoint')
    if not loop or not hook:
        return
    run_by_epoch = bool(loop.get('by_epoch', loop.get('type') == 'EpochBasedTrainLoop'))
    hook_by_epoch = hook.get('by_epoch', True)
    if run_by_epoch != hook_by_epoch:
        raise KoviltError(
            f'default_hooks.checkpoint.by_epoch is {hook_by_epoch}, but train_cfg counts '
            f'{"epochs" if run_by_epoch else "steps"}; such checkpoints cannot be resumed from: make them agree'
        )


# Components: dict(type=...)


def check_component(node: Any, path: str, registry: Registry, default: str | None = None) -> None:
    """Check one `dict(type=...)` against the constructor of its type, then the components among its values.

    Args:
        node: the value in the config.
        path: its dotted path in the config, for messages.
        registry: where its type is looked up.
        default: its type when the config names none.
    """
    _check_is_dict(node, path)
    if 'type' not in node and default is None:
        raise KoviltError(f"{path}: missing key 'type'")
    part = _find_type(node.get('type', default), path, registry)
    name = getattr(part, '__name__', type(part).__name__)
    signature = signature_of(part)
    names, is_open = signature.names, signature.open
    if name == 'PretrainedInit':
        raise KoviltError(
            f"{path}: MMEngine's Pretrained unpickles its file, which can run code; METER's encoders take "
            'model.encoder.image_encoder_weights and model.encoder.text_encoder.pretrained, a whole model load_from'
        )
    if name == 'EMAHook':  # passes its **kwargs to the averaged model
        average = _find_type(node.get('ema_type', 'ExponentialMovingAverage'), f'{path}.ema_type', reg.MODELS)
        names, is_open = (*names, *signature_of(average).names), False
    elif name == 'CheckpointHook':  # passes its **kwargs to a remote storage, which kovilt has none of
        is_open = False
    others = KEYS_BESIDE_ARGUMENTS.get(registry, ())
    for key, value in node.items():
        if key in ('type', '_scope_') or key in others:
            continue
        if key not in names:
            guess = nearest(key, (*names, *others))
            if guess or not is_open:
                raise KoviltError(f'unknown key {key!r} in {path} ({name}){guess or _list_choices(names)}')
            continue
        if key in signature.hints and not (value is None and key in FROM_DATA):
            _check_value(value, signature.hints[key], f'{path}.{key}')
        _check_inner_components(value, f'{path}.{key}', REGISTRY_OF_ARGUMENT.get(key, registry))
    if registry in ADDED_BY_FRAMEWORK:
        for key in signature.required:
            if key not in node and key not in ADDED_BY_FRAMEWORK[registry]:
                raise KoviltError(f'missing key {key!r} in {path} ({name})')


def _check_inner_components(node: Any, path: str, registry: Registry) -> None:
    """Check the components inside a value: a dict with a type, a list of them, or a dict of them."""
    if isinstance(node, Mapping):
        if isinstance(node.get('type'), str) or inspect.isclass(node.get('type')):
            check_component(node, path, registry)
        else:
            for key, value in node.items():
                _check_inner_components(value, f'{path}.{key}', registry)
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            _check_inner_components(value, f'{path}.{i}', registry)


def _find_type(kind: Any, path: str, registry: Registry) -> Callable[..., Any]:
    """The class or function that a `type` stands for."""
    if callable(kind):
        return kind
    if not isinstance(kind, str):
        raise KoviltError(f'{path}: {kind!r} names no {registry.name}; give its name as text')
    try:
        found = registry.get(kind)
    except RuntimeError:  # a dotted name whose package cannot be imported
        found = None
    if found is None:
        names = {**registry.module_dict, **registry.root.module_dict}
        raise KoviltError(
            f'{path}: no {registry.name} is called {kind!r}{nearest(kind, names) or _list_choices(names)}'
        )
    return found


# Keys and values


def _check_keys(node: Any, path: str, names: Iterable[str]) -> None:
    _check_is_dict(node, path)
    for key in node:
        if key not in names:
            raise KoviltError(f'unknown key {key!r} in {path}{nearest(key, names) or _list_choices(names)}')


def _check_is_dict(node: Any, path: str) -> None:
    if not isinstance(node, Mapping):
        raise KoviltError(f'{path} is {node!r}; it must be a dict')


def _check_value(value: Any, hint: Any, path: str) -> None:
    """Compare a value with an annotation made of int, float, bool, str, None and Literal; others are not judged."""
    allowed = _plain_alternatives(hint)
    if allowed is None:
        return
    kinds = [kind for kind in allowed if isinstance(kind, type)]
    choices = [choice for literal in allowed if not isinstance(literal, type) for choice in typing.get_args(literal)]
    if value in choices or any(_is_of_type(value, kind) for kind in kinds):
        return
    if choices and set(kinds) <= {type(None)}:
        expected = f'one of {", ".join(map(repr, choices))}{nearest(str(value), map(str, choices))}'
        raise KoviltError(f'{path} is {value!r}; it must be {expected}')
    expected = ' or '.join(sorted('None' if kind is type(None) else kind.__name__ for kind in kinds))
    raise KoviltError(f'{path} is {value!r}, a {type(value).__name__}; it must be {expected}')


def _plain_alternatives(hint: Any) -> list[Any] | None:
    """The plain types and Literals that an annotation allows; None when it also allows anything else."""
    if hint in (int, float, bool, str, type(None)) or typing.get_origin(hint) is Literal:
        return [hint]
    if typing.get_origin(hint) in (Union, types.UnionType):
        parts = [_plain_alternatives(part) for part in typing.get_args(hint)]
        return None if None in parts else [kind for part in parts for kind in part or ()]
    return None


def _is_of_type(value: Any, kind: type) -> bool:
    """`isinstance`, but an int is also a float, and a bool is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _list_choices(names: Iterable[str]) -> str:
    names = sorted(names)
    return f'; it takes {", ".join(names)}' if len(names) <= 12 else ''
