"""What watches a run: exact resuming, the time of an epoch, the record of a work folder, the answers of a test;
and what fine-tuning starts from."""

from kovilt.engine.hooks.epoch_time import EpochTimeHook
from kovilt.engine.hooks.exact_resume import ExactResumeHook
from kovilt.engine.hooks.init_cls_from_mask import InitCLSFromMaskHook
from kovilt.engine.hooks.predictions import PredictionsHook
from kovilt.engine.hooks.run_record import RunRecordHook
from kovilt.engine.hooks.step_info import StepInfoHook

__all__ = [
    'EpochTimeHook',
    'ExactResumeHook',
    'PredictionsHook',
    'RunRecordHook',
    'InitCLSFromMaskHook',
    'StepInfoHook',
]
