"""What watches a run: exact resuming, the time of an epoch, and the record that a work folder keeps."""

from .epoch_time import EpochTimeHook
from .exact_resume import ExactResumeHook
from .run_record import RunRecordHook

__all__ = ['EpochTimeHook', 'ExactResumeHook', 'RunRecordHook']
