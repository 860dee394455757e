"""All that this package registers and offers, under the names that its `__all__` lists; importing it takes seconds."""
# ruff: noqa: F401

from kovilt.engine.distributed import KoviltDistributedDataParallel
from kovilt.engine.hooks import EpochTimeHook, ExactResumeHook, PredictionsHook, RunRecordHook, StepInfoHook
from kovilt.engine.log_processor import BriefLogProcessor
from kovilt.engine.loops import StepTrainLoop
from kovilt.engine.muon import MuonAdamW
from kovilt.engine.optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor
from kovilt.engine.runner import KoviltRunner
from kovilt.engine.schedule import WarmupLinearLR
