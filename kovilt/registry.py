"""kovilt's registries: under the scope `kovilt`, one child of each of MMEngine's 23 root registries, and READERS.

A registry imports its package when it is first searched, so a config needs no `custom_imports` for kovilt's own
classes. Also the roots to which kovilt adds nothing have a child: with `default_scope='kovilt'` MMEngine warns about
each root without a child of that scope.

MMEngine imports a name that no registry holds, so that `dict(type='subprocess.getoutput', cmd=...)` runs a command.
That is right for a config of the user, which is a program anyway. What a model folder or a checkpoint says passes
`check_stored` first, and is built while `registered_names_only` is open.

Importing this file also lets MMEngine resolve `kovilt::NAME`, in `_base_` and in `mmengine.hub.get_config`.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine import registry as _roots
from mmengine.config import utils as _config_utils
from mmengine.registry import Registry

from kovilt.errors import KoviltError, nearest


def _child(root: Registry, *packages: str) -> Registry:
    """The child of an MMEngine root registry that imports `packages` when it is first searched."""
    return Registry(root.name, parent=root, scope='kovilt', locations=list(packages))


# Models, data and metrics.
MODELS = _child(_roots.MODELS, 'kovilt.models')
DATASETS = _child(_roots.DATASETS, 'kovilt.datasets')
READERS = Registry('reader', scope='kovilt', locations=['kovilt.datasets'])  # MMEngine has no root for these
DATA_SAMPLERS = _child(_roots.DATA_SAMPLERS, 'kovilt.datasets')
TRANSFORMS = _child(_roots.TRANSFORMS, 'kovilt.datasets')
FUNCTIONS = _child(_roots.FUNCTIONS, 'kovilt.datasets')
METRICS = _child(_roots.METRICS, 'kovilt.evaluation')

# Training.
HOOKS = _child(_roots.HOOKS, 'kovilt.engine')
LOOPS = _child(_roots.LOOPS, 'kovilt.engine')
RUNNERS = _child(_roots.RUNNERS, 'kovilt.engine')
MODEL_WRAPPERS = _child(_roots.MODEL_WRAPPERS, 'kovilt.engine')
OPTIMIZERS = _child(_roots.OPTIMIZERS, 'kovilt.engine')
OPTIM_WRAPPERS = _child(_roots.OPTIM_WRAPPERS, 'kovilt.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(_roots.OPTIM_WRAPPER_CONSTRUCTORS, 'kovilt.engine')
PARAM_SCHEDULERS = _child(_roots.PARAM_SCHEDULERS, 'kovilt.engine')
LOG_PROCESSORS = _child(_roots.LOG_PROCESSORS, 'kovilt.engine')

# Visualization.
VISUALIZERS = _child(_roots.VISUALIZERS, 'kovilt.visualization')
VISBACKENDS = _child(_roots.VISBACKENDS, 'kovilt.visualization')

# Nothing of kovilt's own.
EVALUATOR = _child(_roots.EVALUATOR)
INFERENCERS = _child(_roots.INFERENCERS)
RUNNER_CONSTRUCTORS = _child(_roots.RUNNER_CONSTRUCTORS)
STRATEGIES = _child(_roots.STRATEGIES)
TASK_UTILS = _child(_roots.TASK_UTILS)
WEIGHT_INITIALIZERS = _child(_roots.WEIGHT_INITIALIZERS)

# Parts of other packages that a stored config may name, by the modules that define them: layers, backbones, pure
# transforms. The rest of these packages may import modules (mmcv's LoadImageFromFile: a path to look for them) or
# unpickle a file (TIMMBackbone, Pretrained).
_PACKAGES = ('mmengine.', 'mmcv.', 'mmpretrain.', 'torch.')
_HARMLESS = (
    'torch.nn.modules.',
    'mmcv.cnn.',
    'mmcv.transforms.processing',
    'mmcv.transforms.wrappers',
    'mmpretrain.models.backbones.',
    'mmpretrain.models.utils.',
    'mmengine.model.weight_init',
)
_HARMFUL = ('TIMMBackbone', 'PretrainedInit', 'RandomResize', 'RandomChoiceResize')  # the last two build what they name

_is_stored: ContextVar[bool] = ContextVar('_is_stored', default=False)
_get = Registry.get


def check_stored(config: Any, registry: Registry, source: str) -> None:
    """Refuse a config that was read from a file unless every `type` in it, at any depth, is a registered name.

    Nothing is built and no module that the config names is imported.

    Args:
        config: a component, `dict(type=...)`, or a list of them.
        registry: where its types are looked up; types in an `init_cfg` are looked up among the weight initializers.
        source: the file and the key of `config`, for messages.

    Raises:
        KoviltError: a type is a dotted name, no text, or neither registered by kovilt or by a package that the user
            imported nor a layer, backbone or transform that does no more than compute.
    """
    if isinstance(config, Mapping):
        if '_scope_' in config:
            raise KoviltError(f'{source}._scope_: a file cannot change the scope of names; leave it out')
        if 'type' in config:
            _find_stored(registry, config['type'], f'{source}.type')
        for key, value in config.items():
            check_stored(value, WEIGHT_INITIALIZERS if key == 'init_cfg' else registry, f'{source}.{key}')
    elif isinstance(config, (list, tuple)):
        for i, value in enumerate(config):
            check_stored(value, registry, f'{source}.{i}')


@contextmanager
def registered_names_only() -> Iterator[None]:
    """While it is open, registries hold to the rule of `check_stored` also for names that constructors look up.

    A name need not stand under `type`: mmpretrain's PatchEmbed builds its `conv_type`, mmcv's ConvModule its
    `padding_mode`.
    """
    token = _is_stored.set(True)
    try:
        yield
    finally:
        _is_stored.reset(token)


def _get_registered(self: Registry, key: str) -> Any:
    if _is_stored.get():
        _find_stored(self, key, self.name)
    return _get(self, key)


Registry.get = _get_registered  # constructors of mmcv use MMEngine's root registries


def _find_stored(registry: Registry, name: Any, source: str) -> None:
    """KoviltError unless a config from a file may name this part."""
    names = _names_in_reach(registry, name) if isinstance(name, str) else {}
    bare = str(name).rpartition('.')[2]
    found = names.get(bare)
    module, own_name = (getattr(found, key, '') for key in ('__module__', '__name__'))
    if found is None or module.startswith(_PACKAGES) and (not module.startswith(_HARMLESS) or own_name in _HARMFUL):
        hint = nearest(bare, names) if found is None else ''
        raise KoviltError(
            f'{source} is {name!r}, no {registry.name} that a file may name{hint}; if a package of yours registers it, '
            'import that package first, or name the config that does'
        )


def _names_in_reach(registry: Registry, name: str) -> dict[str, Any]:
    """The parts that `name` may stand for, by their bare names: none for a dotted name of any other package."""
    scope, dot, bare = name.rpartition('.')
    levels = [registry]
    if scope in ('kovilt', 'mmpretrain') and importlib.util.find_spec(scope) is not None:
        importlib.import_module(f'{scope}.registry')
        levels = [level for level in [registry.root._search_child(scope)] if level is not None]
    elif dot:
        return {}
    while not dot and levels[-1].parent is not None:
        levels.append(levels[-1].parent)
    for level in levels:
        level.import_from_location()
    if not dot and not any(bare in level.module_dict for level in levels):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # mmcv-lite warns of operators that kovilt does not use
            importlib.import_module('mmcv.cnn')  # registers torch's layers; not imported before, as it takes 0.04 s
    return {bare: part for level in reversed(levels) for bare, part in level.module_dict.items()}


def _resolve_config_names() -> None:
    """Teach MMEngine the names of kovilt's configs, `kovilt::kovilt_vqa_aihub.py` or `kovilt::rooms/vqa.py`.

    MMEngine 0.11 has a fixed list of OpenMMLab's projects and refuses names without a folder.
    """
    others = _config_utils._get_package_and_cfg_path

    def split_name(name: str) -> tuple[str, str]:
        package, _, config = name.partition('::')
        return (package, config) if package == 'kovilt' and config else others(name)

    for module in ('mmengine.config.utils', 'mmengine.config.config', 'mmengine.hub.hub'):
        if module in sys.modules:  # the others import it from the first
            vars(sys.modules[module])['_get_package_and_cfg_path'] = split_name


_resolve_config_names()
