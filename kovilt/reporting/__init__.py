"""The report that every training and every test leaves in its work folder, and that of two runs side by side."""

from kovilt.reporting.comparison import write_comparison
from kovilt.reporting.page import write_run_report
from kovilt.reporting.predictions import prediction_sections

__all__ = ['prediction_sections', 'write_comparison', 'write_run_report']
