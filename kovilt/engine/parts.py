"""All that this package registers; importing it takes seconds."""

from .distributed import KoviltDistributedDataParallel
from .hooks import EpochTimeHook, ExactResumeHook, PredictionsHook, RunRecordHook, StepInfoHook
from .log_line import BriefLogProcessor
from .loops import StepTrainLoop
from .muon import MuonAdamW
from .optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor
from .runner import KoviltRunner
from .schedule import WarmupLinearLR

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
