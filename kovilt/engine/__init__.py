"""What runs kovilt's configs: runner, loops, optimizer groups, schedule, checkpoints, hooks.

Importing this package is instant, so that a config can be read, and a mistake in it told, without torch; its names come
from `parts`, which the registries import.
"""

from typing import Any

__all__ = [
    'BriefLogProcessor',
    'EpochTimeHook',
    'ExactResumeHook',
    'KoviltDistributedDataParallel',
    'KoviltRunner',
    'MuonAdamW',
    'PredictionsHook',
    'RunRecordHook',
    'StepInfoHook',
    'StepTrainLoop',
    'ViLTOptimWrapper',
    'ViLTOptimWrapperConstructor',
    'WarmupLinearLR',
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from kovilt.engine import parts

    return getattr(parts, name)
