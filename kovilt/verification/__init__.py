"""Finds what is wrong with a data set before a training does: images, texts, answers, ids, splits, leakage."""

from kovilt.verification.findings import KINDS, Finding, Findings
from kovilt.verification.report import Report, verify
from kovilt.verification.sources import DataSource, sources_of_config, sources_of_folder

__all__ = ['KINDS', 'Finding', 'Findings', 'Report', 'DataSource', 'sources_of_config', 'sources_of_folder', 'verify']
