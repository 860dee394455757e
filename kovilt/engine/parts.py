"""All that this package registers and offers, under the names that its `__all__` lists; importing it takes seconds."""
# ruff: noqa: F401

from .distributed import KoviltDistributedDataParallel
from .hooks import EpochTimeHook, ExactResumeHook, PredictionsHook, RunRecordHook, StepInfoHook
from .log_line import BriefLogProcessor
from .loops import StepTrainLoop
from .muon import MuonAdamW
from .optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor
from .runner import KoviltRunner
from .schedule import WarmupLinearLR
