"""What runs kovilt's configs: runner, loops, optimizer groups, schedule, checkpoints, hooks."""

from .distributed import KoviltDistributedDataParallel
from .hooks import EpochTimeHook, ExactResumeHook, PredictionsHook, RunRecordHook
from .loops import StepTrainLoop
from .optim import AutocastOptimWrapper, ViLTOptimWrapperConstructor
from .runner import KoviltRunner
from .schedule import WarmupLinearLR

__all__ = ['AutocastOptimWrapper', 'EpochTimeHook', 'ExactResumeHook', 'KoviltDistributedDataParallel', 'KoviltRunner',
           'PredictionsHook', 'RunRecordHook', 'StepTrainLoop', 'ViLTOptimWrapperConstructor', 'WarmupLinearLR']
