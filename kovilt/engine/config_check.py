"""Comparing a config with the constructors it will call: unknown keys and types, missing keys, wrong values."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, Union

from mmengine.registry import Registry

from kovilt import registry as reg
from kovilt.engine.signatures import LoadedParts, Part, Parts
from kovilt.engine.source_signatures import SourceParts
from kovilt.errors import KoviltError, nearest

# Keys of a config that are no argument of Runner: MMEngine reads them elsewhere; load_encoder_only is KoviltRunner's.
BESIDE_RUNNER = (
    'runner_type',
    'custom_imports',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'compile',
    'activation_checkpointing',
    'load_encoder_only',
)
ENV_KEYS = {
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}
HOOK_NAMES = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')

# Which registry the dicts under an argument are looked up in, wherever their owner's own is not the right one.
BY_ARGUMENT = {
    'dataset': reg.DATASETS,
    'datasets': reg.DATASETS,
    'image_pipeline': reg.TRANSFORMS,
    'text_pipeline': reg.TRANSFORMS,
    'pipeline': reg.TRANSFORMS,
    'transforms': reg.TRANSFORMS,
    'sampler': reg.DATA_SAMPLERS,
    'metrics': reg.METRICS,
    'vis_backends': reg.VISBACKENDS,
    'init_cfg': reg.WEIGHT_INITIALIZERS,
    'optimizer': reg.OPTIMIZERS,
}

# Arguments that the framework hands over, so that a config need not state them.
GIVEN = {
    reg.DATA_SAMPLERS: {'dataset', 'seed', 'sampler', 'batch_size'},
    reg.LOOPS: {'runner', 'dataloader', 'evaluator'},
    reg.PARAM_SCHEDULERS: {'optimizer'},
    reg.OPTIMIZERS: {'params'},
    reg.OPTIM_WRAPPERS: {'optimizer'},
    reg.VISUALIZERS: {'name', 'save_dir'},
    reg.VISBACKENDS: {'save_dir'},
    reg.MODEL_WRAPPERS: {'module'},
}
CHECKED_FOR_MISSING = (reg.DATASETS, reg.TRANSFORMS, reg.HOOKS, reg.METRICS, reg.LOOPS, reg.DATA_SAMPLERS)
FROM_DATA = ('num_answers', 'vocab_size', 'mask_token_id', 'special_token_ids')  # None: KoviltRunner asks the data


@functools.lru_cache
def top_level_keys() -> frozenset[str]:
    """What may stand at the top of a config."""
    runner = SourceParts().at('mmengine.runner', 'Runner')
    if runner is None or not runner.signature.closed:
        runner = LoadedParts().at('mmengine.runner', 'Runner')
    return frozenset(runner.signature.names) - {'cfg'} | set(BESIDE_RUNNER)


def check_config(config: Mapping, parts: Parts | None = None) -> None:
    """KoviltError for the first part of a config that no constructor would take as it stands.

    Args:
        config: the whole config.
        parts: where its types are looked up: None = among the classes themselves, which are imported.
    """
    _Check(LoadedParts() if parts is None else parts).config(config)


class _Check:
    """The rules, by what `parts` knows of the types that a config names; what it cannot tell is passed over."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def config(self, config: Mapping) -> None:
        for key in config:
            if key not in top_level_keys():
                continue  # a helper's name, checked against its use when the file was read
            value = config[key]
            if value is None:
                continue
            if key in ('model', 'data_preprocessor'):
                self.component(value, key, reg.MODELS)
            elif key.endswith('_dataloader'):
                self.dataloader(value, key)
            elif key.endswith('_cfg') and key != 'env_cfg':
                self.loop_or_wrapper(value, key)
            elif key == 'optim_wrapper':
                self.optim_wrapper(value, key)
            elif key == 'param_scheduler':
                self.components(value, key, reg.PARAM_SCHEDULERS, extra=('convert_to_iter_based',))
            elif key.endswith('_evaluator'):
                self.evaluator(value, key)
            elif key == 'default_hooks':
                _is_dict(value, key)
                for name, hook in value.items():
                    if hook is None:
                        continue
                    _is_dict(hook, f'{key}.{name}')
                    if name not in HOOK_NAMES and 'type' not in hook:
                        raise KoviltError(f"{key}.{name}: missing key 'type'{nearest(name, HOOK_NAMES)}")
                    self.component(hook, f'{key}.{name}', reg.HOOKS, extra=('priority',))
            elif key == 'custom_hooks':
                self.components(value, key, reg.HOOKS, extra=('priority',))
            elif key == 'visualizer':
                _is_dict(value, key)
                self.component({'type': 'Visualizer', **value}, key, reg.VISUALIZERS)
            elif key == 'log_processor':
                _is_dict(value, key)
                self.component({'type': 'LogProcessor', **value}, key, reg.LOG_PROCESSORS)
            elif key in ENV_KEYS:
                _known(value, key, ENV_KEYS[key])
        if 'model' not in config:
            raise KoviltError("the config has no 'model'")
        _checkpoints_where_runs_resume(config)

    def dataloader(self, node: Any, path: str) -> None:
        parts = {
            'dataset': reg.DATASETS,
            'sampler': reg.DATA_SAMPLERS,
            'batch_sampler': reg.DATA_SAMPLERS,
            'collate_fn': reg.FUNCTIONS,
            'worker_init_fn': reg.FUNCTIONS,
        }
        _is_dict(node, path)
        loader = self.parts.at('torch.utils.data', 'DataLoader')
        if loader is not None and loader.signature.whole:
            _known(node, path, (*loader.signature.names, 'num_batch_per_epoch'))
        for key in ('dataset', 'sampler', 'batch_size'):
            if key not in node:
                raise KoviltError(f'{path}: missing key {key!r}')
        for key, value in node.items():
            if key in parts:
                self.component(value, f'{path}.{key}', parts[key])
            elif key in ('batch_size', 'num_workers'):
                _value(value, int, f'{path}.{key}')
                if value < (key == 'batch_size'):
                    raise KoviltError(f'{path}.{key} is {value}; it must be at least {int(key == "batch_size")}')

    def loop_or_wrapper(self, node: Any, path: str) -> None:
        _is_dict(node, path)
        if path == 'model_wrapper_cfg':
            self.component({'type': 'KoviltDistributedDataParallel', **node}, path, reg.MODEL_WRAPPERS)
            return
        node = dict(node)
        by_epoch = node.pop('by_epoch', None)
        train = 'EpochBasedTrainLoop' if by_epoch else 'StepTrainLoop'
        if path == 'train_cfg' and 'type' not in node and by_epoch is None:
            raise KoviltError("train_cfg: missing key 'by_epoch' or 'type'")
        default = {'train_cfg': train, 'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}[path]
        self.component({'type': default, **node}, path, reg.LOOPS)

    def optim_wrapper(self, node: Any, path: str) -> None:
        _is_dict(node, path)
        node = {'type': 'OptimWrapper', **node}
        constructor = node.pop('constructor', None)
        node.pop('paramwise_cfg', None)  # checked by its constructor
        if constructor is not None:
            self.resolve(constructor, f'{path}.constructor', reg.OPTIM_WRAPPER_CONSTRUCTORS)
        if 'optimizer' not in node:
            raise KoviltError(f"{path}: missing key 'optimizer'")
        self.component(node.pop('optimizer'), f'{path}.optimizer', reg.OPTIMIZERS)
        self.component(node, path, reg.OPTIM_WRAPPERS, extra=('constructor', 'paramwise_cfg', 'optimizer'))

    def evaluator(self, node: Any, path: str) -> None:
        if isinstance(node, Mapping) and 'metrics' in node:
            self.component({'type': 'Evaluator', **node}, path, reg.EVALUATOR)
        else:
            self.components(node, path, reg.METRICS)

    def components(self, node: Any, path: str, registry: Registry, extra: Iterable[str] = ()) -> None:
        if isinstance(node, (list, tuple)):
            for i, item in enumerate(node):
                self.component(item, f'{path}.{i}', registry, extra)
        else:
            self.component(node, path, registry, extra)

    def component(self, node: Any, path: str, registry: Registry, extra: Iterable[str] = ()) -> None:
        """Checks one `dict(type=...)` against its class, then the components within it."""
        _is_dict(node, path)
        if 'type' not in node:
            raise KoviltError(f"{path}: missing key 'type'")
        part = self.resolve(node['type'], path, registry)
        if part is None:
            return
        name, signature = part
        if name == 'PretrainedInit':
            raise KoviltError(
                f"{path}: MMEngine's Pretrained unpickles its file, which can run code; METER's encoders take "
                'model.encoder.image_encoder_weights and model.encoder.text_encoder.pretrained, a whole model load_from'
            )
        if name == 'EMAHook':  # hands its **kwargs to the average
            average = self.resolve(node.get('ema_type', 'ExponentialMovingAverage'), f'{path}.ema_type', reg.MODELS)
            names, whole = (average.signature.names, average.signature.whole) if average else ((), False)
            signature = replace(
                signature, names=(*signature.names, *names), closed=True, whole=signature.whole and whole
            )
        what = f'{path} ({name})'
        for key, value in node.items():
            if key in ('type', '_scope_') or key in extra:
                continue
            if key not in signature.names:
                guess = nearest(key, (*signature.names, *extra))
                no_more = signature.closed or guess or name == 'CheckpointHook'  # its **kwargs leads nowhere in kovilt
                if signature.whole and no_more:
                    raise KoviltError(f'unknown key {key!r} in {what}{guess or _choices(signature.names)}')
                continue
            if not (value is None and key in FROM_DATA) and key in signature.types:
                _value(value, signature.types[key], f'{path}.{key}')
            self.within(value, f'{path}.{key}', BY_ARGUMENT.get(key, registry))
        if any(registry is checked for checked in CHECKED_FOR_MISSING):
            given = next((names for owner, names in GIVEN.items() if owner is registry), set())
            for key in signature.required:
                if key not in node and key not in given:
                    raise KoviltError(f'missing key {key!r} in {what}')

    def within(self, node: Any, path: str, registry: Registry) -> None:
        """Finds the components inside an argument's value: a dict with a type, a list of them, or a dict of such."""
        if isinstance(node, Mapping):
            if isinstance(node.get('type'), str) or inspect.isclass(node.get('type')):
                self.component(node, path, registry)
            else:
                for key, value in node.items():
                    self.within(value, f'{path}.{key}', registry)
        elif isinstance(node, (list, tuple)):
            for i, value in enumerate(node):
                self.within(value, f'{path}.{i}', registry)

    def resolve(self, kind: Any, path: str, registry: Registry) -> Part | None:
        """The part that a `type` names; None when it cannot be told. KoviltError when there is none."""
        if not isinstance(kind, str) and not callable(kind):
            raise KoviltError(f'{path}: {kind!r} names no {registry.name}; give its name as text')
        part = self.parts.find(kind, registry)
        names = self.parts.instead_of(kind, registry) if part is None else None
        if names is not None:
            raise KoviltError(f'{path}: no {registry.name} is called {kind!r}{nearest(kind, names) or _choices(names)}')
        return part


def _checkpoints_where_runs_resume(config: Mapping) -> None:
    """A run counted in epochs can only go on from the end of one, a run counted in steps from any step."""
    loop, hook = config.get('train_cfg'), (config.get('default_hooks') or {}).get('checkpoint')
    if not loop or not hook:
        return
    by_epoch = loop.get('by_epoch', loop.get('type') == 'EpochBasedTrainLoop')
    if bool(by_epoch) != hook.get('by_epoch', True):
        raise KoviltError(
            f'default_hooks.checkpoint.by_epoch is {hook.get("by_epoch", True)}, but train_cfg counts '
            f'{"epochs" if by_epoch else "steps"}; such checkpoints cannot be resumed from: make them agree'
        )


def _value(value: Any, hint: Any, path: str) -> None:
    """KoviltError when a plain value contradicts a plain annotation; annotations beyond those are not judged."""
    allowed = _plain(hint)
    if allowed is None:
        return
    kinds, choices = allowed
    if choices and not kinds - {type(None)}:
        if value not in choices and not (value is None and type(None) in kinds):
            raise KoviltError(
                f'{path} is {value!r}; it must be one of {", ".join(map(repr, choices))}'
                f'{nearest(str(value), map(str, choices))}'
            )
        return
    fits = (
        any(
            value is None
            if kind is type(None)
            else isinstance(value, bool)
            if kind is bool
            else isinstance(value, (int, float)) and not isinstance(value, bool)
            if kind is float
            else isinstance(value, int) and not isinstance(value, bool)
            if kind is int
            else isinstance(value, kind)
            for kind in kinds
        )
        or value in choices
    )
    if not fits:
        wanted = ' or '.join(sorted('None' if kind is type(None) else kind.__name__ for kind in kinds))
        raise KoviltError(f'{path} is {value!r}, a {type(value).__name__}; it must be {wanted}')


def _plain(hint: Any) -> tuple[set[type], tuple] | None:
    """The plain types and literal choices of an annotation, or None when it has any other part."""
    if hint in (int, float, bool, str, type(None)):
        return {hint}, ()
    origin = typing.get_origin(hint)
    if origin is Literal:
        return set(), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        parts = [_plain(part) for part in typing.get_args(hint)]
        if all(parts):
            return set().union(*(part[0] for part in parts)), tuple(choice for part in parts for choice in part[1])
    return None


def _known(node: Any, path: str, names: Iterable[str]) -> None:
    _is_dict(node, path)
    for key in node:
        if key not in names:
            raise KoviltError(f'unknown key {key!r} in {path}{nearest(key, names) or _choices(names)}')


def _is_dict(node: Any, path: str) -> None:
    if not isinstance(node, Mapping):
        raise KoviltError(f'{path} is {node!r}; it must be a dict')


def _choices(names: Iterable[str]) -> str:
    names = sorted(names)
    return f'; it takes {", ".join(names)}' if len(names) <= 12 else ''
