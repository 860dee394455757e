"""Verifies a data set: the rows of each split, then all images, then what the splits share. Returns a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.datasets.folders import list_folders
from kovilt.datasets.tar_files import extract_command, find_compressed
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.errors import KoviltError
from kovilt.terminal import printable
from kovilt.verification.checked_images import CheckedImages
from kovilt.verification.figures import histogram, quantiles
from kovilt.verification.findings import FINDING_KINDS, SEVERITIES, Findings
from kovilt.verification.images import ReportProgress
from kovilt.verification.rows import SplitRows, add_refusal, read_split
from kovilt.verification.sources import DataSource
from kovilt.verification.splits import check_leaks, check_lengths, check_rows, check_val_answers

MAX_ANSWERS = 100  # in the histogram of the report


@dataclass(frozen=True)
class VerificationReport:
    """The findings, with the figures of each split and of the images."""

    findings: Findings
    splits: list[dict[str, Any]]
    images: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON: `findings` has the first ones of each code, `counts` the number of each."""
        listed = [
            {
                'code': found.code,
                'place': found.place,
                'description': found.description,
                'times': found.times,
                'other_places': found.places[1:],
                **FINDING_KINDS[found.code]._asdict(),
            }
            for found in self.findings
        ]
        counts = {'severities': self.findings.severities(), 'counts': dict(self.findings.counts)}
        return {**counts, 'splits': self.splits, 'images': self.images, 'findings': listed}

    def lines(self, max_places: int) -> list[str]:
        """Text for a terminal: the splits, then each code with its first places, errors first."""
        lines = [
            f'{split["reader"]} {printable(split["split"])}: {split["rows"]:,} rows on {split["images"]:,} images'
            for split in self.splits
        ]
        lines.append(self.how_checked())
        for code in dict.fromkeys(found.code for found in self.findings):
            count, (severity, remedy) = self.findings.counts[code], FINDING_KINDS[code]
            times = self.findings.times[code]
            often = f', {times:,} times' if times > count else ''
            lines.append(f'\n{severity}  {code}  {count:,}{often}' + (f'  ({remedy})' if remedy else ''))
            lines += [f'  {printable(found)}' for found in self.findings.of(code)[:max_places]]
            lines += [f'  and {count - max_places:,} more'] if count > max_places else []
        return [*lines, '\n' + self.totals()]

    def how_checked(self) -> str:
        """How many images were checked, and how."""
        how = 'all decoded' if self.images['decoded'] else 'headers only: --deep finds damaged content and copies'
        return f'{self.images["checked"]:,} images, {how}'

    def totals(self) -> str:
        """The number of findings of each severity."""
        totals = self.findings.severities()
        return ', '.join(f'{totals[name]:,} {name}{"s" * (totals[name] != 1)}' for name in SEVERITIES)


def verify(
    sources: Sequence[DataSource], *, deep: bool | None, workers: int, progress: ReportProgress
) -> VerificationReport:
    """Check all rows and images of the splits.

    Args:
        sources: the splits, from `sources_of_config` or `sources_of_folder`.
        deep: decode every image, instead of reading its header; None = if there are fewer than 10,000.
        workers: processes that check images.
        progress: called with the number of images checked and of all images.
    """
    findings = Findings()
    splits = [read_split(source, findings) for source in sources]
    figures = [_check_split(split, findings) for split in splits]
    images = CheckedImages(splits, findings, deep=deep, workers=workers, progress=progress)
    for training in (split for split in splits if split.source.training and len(split)):
        for val, own in zip(splits, figures, strict=True):
            if not val.source.training and val.source.reader is training.source.reader:
                own['answerable_share'] = check_val_answers(training, val, findings)
                check_leaks(training, val, images, findings)
    _check_missing_splits(sources, findings)
    _check_compressed_images(splits, findings)
    return VerificationReport(findings, figures, images.figures())


def _check_missing_splits(sources: Sequence[DataSource], findings: Findings) -> None:
    """Data sets that have only training splits, or none."""
    for reader in dict.fromkeys(source.reader for source in sources):
        own = [source for source in sources if source.reader is reader]
        for wanted, name in ((True, 'train'), (False, 'val')):
            if all(source.training is not wanted for source in own):
                findings.add('split.absent', own[0].place, f'{reader.__name__} has no {name} split')


def _check_compressed_images(splits: Sequence[SplitRows], findings: Findings) -> None:
    """Compressed tars where images are missing."""
    for split in splits:
        root = Path(os.path.expanduser(split.source.place))
        if len(split.places.absent()) and (compressed := find_compressed(list_folders(root, allow_outside=True))):
            findings.add('image.compressed', compressed, f'not extracted: {extract_command(compressed)}')


def _check_split(split: SplitRows, findings: Findings) -> dict[str, Any]:
    """The checks within a split; returns its figures for the report."""
    source = split.source
    if not len(split) and not split.refused:
        findings.add('split.empty', source.place, f'{source} has no rows')
    check_rows(split, findings)
    tokenizer = None
    try:
        tokenizer = load_tokenizer(source.tokenizer) if source.tokenizer else None
    except KoviltError as error:
        add_refusal('tokenizer.refused', error, findings)
    lengths, unknown_share = check_lengths(split, tokenizer, findings)
    answers = split.count_answers()
    return {
        'reader': source.reader.__name__,
        'split': source.name,
        'data_root': source.place,
        'rows': len(split),
        'images': len(split.first_rows()),
        'rows_per_image': quantiles(np.bincount(split.images)[np.unique(split.images)]),
        'text_length': {
            'unit': 'characters' if tokenizer is None else 'tokens',
            **quantiles(lengths),
            'histogram': histogram(lengths),
        },
        'unknown_token_share': unknown_share,
        'distinct_answers': len(answers),
        'answers': dict(answers.most_common(MAX_ANSWERS)),
        'answer_types': dict(split.count_answer_types().most_common()),
        'answerable_share': None,  # filled in where a training split shows what can be answered
    }
