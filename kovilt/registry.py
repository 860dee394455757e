"""The registries of kovilt: one child, scope `kovilt`, of each of MMEngine's 23 root registries.

`locations` names the package that is imported when a registry is first searched, so a config needs no
`custom_imports` for kovilt's own parts. Every root is mirrored, also those kovilt adds nothing to: with
`default_scope='kovilt'` MMEngine warns about each root that has no child of that scope.
"""

from mmengine import registry as _roots
from mmengine.registry import Registry


def _child(root: Registry, *locations: str) -> Registry:
    """The kovilt child of an MMEngine root registry, filled by importing `locations` on first use."""
    return Registry(root.name, parent=root, scope='kovilt', locations=list(locations))


# What a model is made of, and what feeds and judges it.
MODELS = _child(_roots.MODELS, 'kovilt.models')
DATASETS = _child(_roots.DATASETS, 'kovilt.datasets')
DATA_SAMPLERS = _child(_roots.DATA_SAMPLERS, 'kovilt.datasets')
TRANSFORMS = _child(_roots.TRANSFORMS, 'kovilt.datasets')
FUNCTIONS = _child(_roots.FUNCTIONS, 'kovilt.datasets')
METRICS = _child(_roots.METRICS, 'kovilt.evaluation')

# What runs it.
HOOKS = _child(_roots.HOOKS, 'kovilt.engine')
LOOPS = _child(_roots.LOOPS, 'kovilt.engine')
RUNNERS = _child(_roots.RUNNERS, 'kovilt.engine')
MODEL_WRAPPERS = _child(_roots.MODEL_WRAPPERS, 'kovilt.engine')
OPTIMIZERS = _child(_roots.OPTIMIZERS, 'kovilt.engine')
OPTIM_WRAPPERS = _child(_roots.OPTIM_WRAPPERS, 'kovilt.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(_roots.OPTIM_WRAPPER_CONSTRUCTORS, 'kovilt.engine')
PARAM_SCHEDULERS = _child(_roots.PARAM_SCHEDULERS, 'kovilt.engine')
LOG_PROCESSORS = _child(_roots.LOG_PROCESSORS, 'kovilt.engine')

# What shows it.
VISUALIZERS = _child(_roots.VISUALIZERS, 'kovilt.visualization')
VISBACKENDS = _child(_roots.VISBACKENDS, 'kovilt.visualization')

# Mirrored only so that MMEngine finds a child of this scope.
EVALUATOR = _child(_roots.EVALUATOR)
INFERENCERS = _child(_roots.INFERENCERS)
RUNNER_CONSTRUCTORS = _child(_roots.RUNNER_CONSTRUCTORS)
STRATEGIES = _child(_roots.STRATEGIES)
TASK_UTILS = _child(_roots.TASK_UTILS)
WEIGHT_INITIALIZERS = _child(_roots.WEIGHT_INITIALIZERS)
