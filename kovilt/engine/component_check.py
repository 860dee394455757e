"""Compares one component of a config, `dict(type=...)`, with the constructor that its keys are the arguments of."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Annotated, Any, Literal

from mmengine.registry import Registry
from mmengine.runner import Priority

from kovilt import registry as reg
from kovilt.engine.foreign_ranges import OF_REGISTRY, hint_of
from kovilt.errors import KoviltError, nearest
from kovilt.models.sizes import FROM_DATA
from kovilt.ranges import Range, check_value

# Components inside another one are looked up in its registry, but for those under these arguments.
REGISTRY_OF_ARGUMENT = {
    'dataset': reg.DATASETS,
    'datasets': reg.DATASETS,
    'reader': reg.READERS,
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
KEYS_BESIDE_ARGUMENTS: dict[Registry, dict[str, Any]] = {
    reg.HOOKS: {'priority': Literal[tuple(level.name for level in Priority)] | Annotated[int, Range(ge=0, le=100)]},
    reg.LOOPS: {'by_epoch': bool},
    reg.PARAM_SCHEDULERS: {'convert_to_iter_based': bool},
    reg.OPTIM_WRAPPERS: {'constructor': Any, 'paramwise_cfg': dict | None},
    reg.VISBACKENDS: {'name': str},
}

# The registries whose components are refused when an argument without a default is missing, with the arguments that
# the framework adds itself.
ADDED_BY_FRAMEWORK: dict[Registry, tuple[str, ...]] = {
    reg.DATASETS: (),
    reg.READERS: (),
    reg.TRANSFORMS: (),
    reg.HOOKS: (),
    reg.METRICS: (),
    reg.LOOPS: ('runner', 'dataloader', 'evaluator'),
    reg.DATA_SAMPLERS: ('dataset', 'seed', 'sampler', 'batch_size'),
}


def check_component(node: Any, path: str, registry: Registry, default: str | None = None) -> None:
    """Check one `dict(type=...)` against the constructor of its type, then the components among its values.

    Args:
        node: the value in the config.
        path: its dotted path in the config, for messages.
        registry: where its type is looked up.
        default: its type when the config names none.

    Raises:
        KoviltError: an unknown type or key, a missing key, a value of a wrong type; of the first one that is found.
    """
    check_is_dict(node, path)
    if 'type' not in node and default is None:
        raise KoviltError(f"{path}: missing key 'type'")
    part = find_type(node.get('type', default), path, registry)
    name = getattr(part, '__name__', type(part).__name__)
    if name == 'PretrainedInit':
        raise KoviltError(
            f"{path}: MMEngine's Pretrained unpickles its file, which can run code; METER's encoders take "
            'model.encoder.image_encoder_weights and model.encoder.text_encoder.pretrained, a whole model load_from'
        )
    arguments, is_open = arguments_of(part)
    beside = KEYS_BESIDE_ARGUMENTS.get(registry, {})
    names = [*arguments, *beside]
    if name == 'EMAHook':  # passes its **kwargs to the averaged model
        average = find_type(node.get('ema_type', 'ExponentialMovingAverage'), f'{path}.ema_type', reg.MODELS)
        averaged = arguments_of(average)[0]
        names += averaged
        for key in averaged.keys() & node.keys() - arguments.keys():
            check_value(f'{path}.{key}', node[key], hint_of(average, reg.MODELS, averaged[key]))
    is_open = is_open and name not in ('EMAHook', 'CheckpointHook')  # CheckpointHook's go to a remote storage
    for key, value in node.items():
        if key in ('type', '_scope_'):
            continue
        if key in beside:
            check_value(f'{path}.{key}', value.upper() if isinstance(value, str) else value, beside[key])
            continue
        if key not in names:
            guess = nearest(key, names)
            if guess or not is_open:
                raise KoviltError(f'unknown key {key!r} in {path} ({name}){guess or _list_choices(names)}')
            continue
        if key in arguments and not (value is None and key in FROM_DATA):  # None: the data gives the size
            check_value(f'{path}.{key}', value, hint_of(part, registry, arguments[key]))
        _check_inner_components(value, f'{path}.{key}', REGISTRY_OF_ARGUMENT.get(key, registry))
    if registry in ADDED_BY_FRAMEWORK:
        for key, argument in arguments.items():
            if argument.default is argument.empty and key not in (*node, *ADDED_BY_FRAMEWORK[registry]):
                raise KoviltError(f'missing key {key!r} in {path} ({name})')


def _check_inner_components(node: Any, path: str, registry: Registry) -> None:
    """Check the components inside a value: a dict with a type, a list of them, or a dict of them."""
    if isinstance(node, Mapping) and (isinstance(node.get('type'), str) or inspect.isclass(node.get('type'))):
        check_component(node, path, registry)
    elif isinstance(node, (Mapping, list, tuple)):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            if isinstance(node, Mapping) and key in OF_REGISTRY.get(registry, {}):  # of a dict inside a component
                check_value(f'{path}.{key}', value, OF_REGISTRY[registry][key])
            _check_inner_components(value, f'{path}.{key}', registry)


def find_type(kind: Any, path: str, registry: Registry) -> Callable[..., Any]:
    """The class or function that a `type` in a config stands for; KoviltError if there is none."""
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
        hint = nearest(kind, names) or _list_choices(names)
        if registry is reg.DATASETS and (reader := nearest(kind, reg.READERS.module_dict)):
            hint = f'; a QuestionDataset or PairDataset with reader=dict(type=...) reads files{reader}'
        raise KoviltError(f'{path}: no {registry.name} is called {kind!r}{hint}')
    return found


@functools.cache
def arguments_of(part: Callable[..., Any]) -> tuple[Mapping[str, Parameter], bool]:
    """The arguments that a class or function takes by name, and whether its **kwargs accept further, unknown names.

    The **kwargs of a constructor are taken to go to the constructor of the next base class, and so on.
    """
    functions = [part]
    if isinstance(part, type):
        functions = [vars(base)['__init__'] for base in part.__mro__[:-1] if '__init__' in vars(base)]
    arguments: dict[str, Parameter] = {}
    is_open = False
    for function in functions:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError, AttributeError):  # an annotation whose name exists for type checkers only
            signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[
            isinstance(part, type) :
        ]  # without the `self` of a constructor
        for parameter in parameters:
            if parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL):
                arguments.setdefault(parameter.name, parameter)
        is_open = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
        if not is_open:
            break
    return arguments, is_open


def check_keys(node: Any, path: str, names: Iterable[str]) -> None:
    """Raise KoviltError unless `node` is a dict and all its keys are among `names`."""
    check_is_dict(node, path)
    for key in node:
        if key not in names:
            raise KoviltError(f'unknown key {key!r} in {path}{nearest(key, names) or _list_choices(names)}')


def check_is_dict(node: Any, path: str) -> None:
    """Raise KoviltError unless `node` is a dict."""
    if not isinstance(node, Mapping):
        raise KoviltError(f'{path} is {node!r}; it must be a dict')


def _list_choices(names: Iterable[str]) -> str:
    names = sorted(names)
    return f'; it takes {", ".join(names)}' if len(names) <= 12 else ''
