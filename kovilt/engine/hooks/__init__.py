"""What watches a run: exact resuming, the time of an epoch, the record of a work folder, the answers of a test;
and what fine-tuning starts from."""

from .epoch_time import EpochTimeHook
from .exact_resume import ExactResumeHook
from .predictions import PredictionsHook
from .run_record import RunRecordHook
from .start_as_mask import StartAsMaskHook
from .step_info import StepInfoHook

__all__ = ['EpochTimeHook', 'ExactResumeHook', 'PredictionsHook', 'RunRecordHook', 'StartAsMaskHook', 'StepInfoHook']
