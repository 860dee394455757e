"""Finds the faults of a data set before training does: images, texts, answers, ids, splits, leakage."""

from kovilt.verification.findings import FINDING_KINDS, Finding, Findings
from kovilt.verification.page import write_verification_page
from kovilt.verification.report import VerificationReport, verify
from kovilt.verification.sources import DataSource, sources_of_config, sources_of_folder

__all__ = [
    'FINDING_KINDS',
    'DataSource',
    'Finding',
    'Findings',
    'VerificationReport',
    'sources_of_config',
    'sources_of_folder',
    'verify',
    'write_verification_page',
]
