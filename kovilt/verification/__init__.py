"""Finds what is wrong with a data set before a training does: pictures, texts, answers, ids, splits, leakage."""

from kovilt.verification.findings import KINDS, Finding, Findings
from kovilt.verification.report import Report, verify
from kovilt.verification.sources import Source, sources_of_config, sources_of_folder

__all__ = ['KINDS', 'Finding', 'Findings', 'Report', 'Source', 'sources_of_config', 'sources_of_folder', 'verify']
