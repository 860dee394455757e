"""Finds what is wrong with a data set before a training does: pictures, texts, answers, ids, splits, leakage."""

from .findings import KINDS, Finding, Findings
from .report import Report, verify
from .sources import Source, sources_of_config, sources_of_folder

__all__ = ['KINDS', 'Finding', 'Findings', 'Report', 'Source', 'sources_of_config', 'sources_of_folder', 'verify']
