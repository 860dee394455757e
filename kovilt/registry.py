"""kovilt's registries: under the scope `kovilt`, one child of each of MMEngine's 23 root registries.

A registry imports its package when it is first searched, so a config needs no `custom_imports` for kovilt's own
classes. Also the roots to which kovilt adds nothing have a child: with `default_scope='kovilt'` MMEngine warns about
each root without a child of that scope.
"""

from mmengine import registry as _roots
from mmengine.registry import Registry


def _child(root: Registry, *packages: str) -> Registry:
    """The child of an MMEngine root registry that imports `packages` when it is first searched."""
    return Registry(root.name, parent=root, scope='kovilt', locations=list(packages))


# Models, data and metrics.
MODELS = _child(_roots.MODELS, 'kovilt.models')
DATASETS = _child(_roots.DATASETS, 'kovilt.datasets')
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
