"""What runs a config: config reading and checking, the runner, loops, hooks, optimizer, schedule, log lines."""

from kovilt.engine import hooks
from kovilt.engine.distributed import KoviltDistributedDataParallel
from kovilt.engine.log_processor import BriefLogProcessor
from kovilt.engine.loops import EpochTrainLoop, StepTrainLoop
from kovilt.engine.muon import MuonAdamW
from kovilt.engine.optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor
from kovilt.engine.runner import KoviltRunner
from kovilt.engine.schedule import WarmupLinearLR

__all__ = [
    'BriefLogProcessor',
    'KoviltDistributedDataParallel',
    'KoviltRunner',
    'MuonAdamW',
    'EpochTrainLoop',
    'StepTrainLoop',
    'ViLTOptimWrapper',
    'ViLTOptimWrapperConstructor',
    'WarmupLinearLR',
    'hooks',
]
