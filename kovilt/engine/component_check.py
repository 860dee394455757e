"""Compares one component of a config, `dict(type=...)`, with the constructor that its keys are the arguments of."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any, Literal, Union

from mmengine.registry import Registry

from kovilt import registry as reg
from kovilt.errors import KoviltError, nearest
from kovilt.models.sizes import FROM_DATA

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
    beside = KEYS_BESIDE_ARGUMENTS.get(registry, ())
    names = [*arguments, *beside]
    if name == 'EMAHook':  # passes its **kwargs to the averaged model
        average = find_type(node.get('ema_type', 'ExponentialMovingAverage'), f'{path}.ema_type', reg.MODELS)
        names += arguments_of(average)[0]
    is_open = is_open and name not in ('EMAHook', 'CheckpointHook')  # CheckpointHook's go to a remote storage
    for key, value in node.items():
        if key in ('type', '_scope_', *beside):
            continue
        if key not in names:
            guess = nearest(key, names)
            if guess or not is_open:
                raise KoviltError(f'unknown key {key!r} in {path} ({name}){guess or _list_choices(names)}')
            continue
        if key in arguments and not (value is None and key in FROM_DATA):  # None: the data gives the size
            check_value(value, arguments[key].annotation, f'{path}.{key}')
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
        raise KoviltError(
            f'{path}: no {registry.name} is called {kind!r}{nearest(kind, names) or _list_choices(names)}'
        )
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


def check_value(value: Any, hint: Any, path: str) -> None:
    """Raise KoviltError if a value contradicts an annotation of int, float, bool, str, None and Literal.

    An annotation with any other type in it accepts every value.
    """
    alternatives = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    literals = [kind for kind in alternatives if typing.get_origin(kind) is Literal]
    kinds = [kind for kind in alternatives if kind in (int, float, bool, str, type(None))]
    choices = [choice for literal in literals for choice in typing.get_args(literal)]
    if len(literals) + len(kinds) < len(alternatives) or value in choices or any(_is_a(value, kind) for kind in kinds):
        return
    if choices and set(kinds) <= {type(None)}:
        expected = f'one of {", ".join(map(repr, choices))}{nearest(str(value), map(str, choices))}'
        raise KoviltError(f'{path} is {value!r}; it must be {expected}')
    expected = ' or '.join(sorted('None' if kind is type(None) else kind.__name__ for kind in kinds))
    raise KoviltError(f'{path} is {value!r}, a {type(value).__name__}; it must be {expected}')


def _is_a(value: Any, kind: type) -> bool:
    """`isinstance`, but an int is also a float, and a bool is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _list_choices(names: Iterable[str]) -> str:
    names = sorted(names)
    return f'; it takes {", ".join(names)}' if len(names) <= 12 else ''
