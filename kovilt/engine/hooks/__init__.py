"""Hooks of a run: checkpoints, averaged weights, exact resuming, bad losses, times, the record, predictions,
calibration.
"""

from kovilt.engine.hooks.average import EMAHook
from kovilt.engine.hooks.calibration import CalibrationHook
from kovilt.engine.hooks.checkpoint import CheckpointHook
from kovilt.engine.hooks.early_stopping import EarlyStoppingHook
from kovilt.engine.hooks.epoch_time import EpochTimeHook
from kovilt.engine.hooks.exact_resume import ExactResumeHook
from kovilt.engine.hooks.init_cls_from_mask import InitCLSFromMaskHook
from kovilt.engine.hooks.interrupt import InterruptHook
from kovilt.engine.hooks.no_report import NoReportHook
from kovilt.engine.hooks.nonfinite import NonFiniteHook
from kovilt.engine.hooks.predictions import PredictionsHook
from kovilt.engine.hooks.run_logger import RunLoggerHook
from kovilt.engine.hooks.run_record import RunRecordHook
from kovilt.engine.hooks.step_info import StepInfoHook

__all__ = [
    'CalibrationHook',
    'CheckpointHook',
    'EMAHook',
    'EarlyStoppingHook',
    'EpochTimeHook',
    'ExactResumeHook',
    'InitCLSFromMaskHook',
    'InterruptHook',
    'NoReportHook',
    'NonFiniteHook',
    'PredictionsHook',
    'RunLoggerHook',
    'RunRecordHook',
    'StepInfoHook',
]
