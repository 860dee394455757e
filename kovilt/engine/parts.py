"""All that this package registers; importing it takes seconds. What it offers is listed in the package."""

from . import __all__ as __all__
from .distributed import KoviltDistributedDataParallel
from .hooks import EpochTimeHook, ExactResumeHook, PredictionsHook, RunRecordHook, StepInfoHook
from .log_line import BriefLogProcessor
from .loops import StepTrainLoop
from .muon import MuonAdamW
from .optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor
from .runner import KoviltRunner
from .schedule import WarmupLinearLR
