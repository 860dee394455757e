"""Verifies a data set: the rows of each split, then all images, then what the splits share. Returns a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.errors import KoviltError
from kovilt.verification.findings import FINDING_KINDS, SEVERITIES, Findings
from kovilt.verification.images import ImageCheck, ImageLocation, ReportProgress, check_images, group_equal_content
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
        listed = [{**found._asdict(), **FINDING_KINDS[found.code]._asdict()} for found in self.findings]
        counts = {'severities': self.findings.severities(), 'counts': dict(self.findings.counts)}
        return {**counts, 'splits': self.splits, 'images': self.images, 'findings': listed}

    def lines(self, max_places: int) -> list[str]:
        """Text for a terminal: the splits, then each code with its first places, errors first."""
        lines = [
            f'{split["reader"]} {split["split"]}: {split["rows"]:,} rows on {split["images"]:,} images'
            for split in self.splits
        ]
        for code in dict.fromkeys(found.code for found in self.findings):
            count, (severity, remedy) = self.findings.counts[code], FINDING_KINDS[code]
            lines.append(f'\n{severity}  {code}  {count:,}' + (f'  ({remedy})' if remedy else ''))
            lines += [f'  {found.place}: {found.description}' for found in self.findings.of(code)[:max_places]]
            lines += [f'  and {count - max_places:,} more'] if count > max_places else []
        totals = self.findings.severities()
        lines.append('\n' + ', '.join(f'{totals[name]:,} {name}{"s" * (totals[name] != 1)}' for name in SEVERITIES))
        return lines


def verify(sources: Sequence[DataSource], *, deep: bool, workers: int, progress: ReportProgress) -> VerificationReport:
    """Check all rows and images of the splits.

    Args:
        sources: the splits, from `sources_of_config` or `sources_of_folder`.
        deep: decode every image, instead of reading its header.
        workers: processes that check images.
        progress: called with the number of images checked and of all images.
    """
    findings = Findings()
    splits = [read_split(source, findings) for source in sources]
    figures = [_check_split(split, findings) for split in splits]
    images, equal = _check_images(splits, findings, deep=deep, workers=workers, progress=progress)
    for training in (split for split in splits if split.source.training and len(split)):
        for val, own in zip(splits, figures, strict=True):
            if not val.source.training and val.source.reader is training.source.reader:
                own['answerable_share'] = check_val_answers(training, val, findings)
                check_leaks(training, val, equal, findings)
    _check_missing_splits(sources, findings)
    return VerificationReport(findings, figures, images)


def _check_missing_splits(sources: Sequence[DataSource], findings: Findings) -> None:
    """Data sets that have only training splits, or none."""
    for reader in dict.fromkeys(source.reader for source in sources):
        own = [source for source in sources if source.reader is reader]
        for wanted, name in ((True, 'train'), (False, 'val')):
            if all(source.training is not wanted for source in own):
                findings.add('split.absent', own[0].place, f'{reader.__name__} has no {name} split')


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
        'rows_per_image': _quantiles(np.bincount(split.images)[np.unique(split.images)]),
        'text_length': {'unit': 'characters' if tokenizer is None else 'tokens', **_quantiles(lengths)},
        'unknown_token_share': unknown_share,
        'distinct_answers': len(answers),
        'answers': dict(answers.most_common(MAX_ANSWERS)),
        'answer_types': dict(split.count_answer_types().most_common()),
    }


def _check_images(
    splits: Sequence[SplitRows], findings: Findings, *, deep: bool, workers: int, progress: ReportProgress
) -> tuple[dict[str, Any], list[set[str]]]:
    """Checks each image once, whichever splits it is in; returns the figures, and sets of paths of equal content."""
    first_use: dict[str, tuple[ImageLocation, str]] = {}  # path -> where it lies, the first row about it
    for split in splits:
        for image, row in split.first_rows().items():
            place, name = split.places[image], split.places.name(image)
            if place is None:
                findings.add('image.missing', split.place(row), f'{name} is not there')
            else:
                first_use.setdefault(str(place), (place, split.place(row)))
    paths, places = list(first_use), [place for place, _ in first_use.values()]
    checks = list(check_images(places, deep=deep, workers=workers, progress=progress))
    for (path, (_, first_row)), check in zip(first_use.items(), checks, strict=True):
        for code, description in check.faults:
            if code == 'image.missing':
                findings.add(code, first_row, f'{path} is not there')
            else:
                findings.add(code, path, f'{description} ({first_row})')
    groups = [[paths[number] for number in group] for group in group_equal_content(places, checks, workers=workers)]
    _add_repeated_images(groups, splits, findings)
    return _count_images(checks), [set(group) for group in groups]


def _add_repeated_images(groups: list[list[str]], splits: Sequence[SplitRows], findings: Findings) -> None:
    """Images of equal content within one split; `check_leaks` finds those of two splits."""
    for split in splits:
        own = {split.places.name(image) for image in split.first_rows()}
        for group in groups:
            first, *others = [path for path in group if path in own] or ['']
            for path in others:
                findings.add('image.repeated', path, f'the same bytes as {first}')


def _count_images(checks: Sequence[ImageCheck]) -> dict[str, Any]:
    headers = [check.header for check in checks if check.header]
    return {
        'checked': len(checks),
        'bytes': sum(check.size for check in checks),
        'formats': dict(Counter(header[0] for header in headers)),
        'modes': dict(Counter(header[1] for header in headers)),
        'width': _quantiles([header[2] for header in headers]),
        'height': _quantiles([header[3] for header in headers]),
    }


def _quantiles(values: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Minimum, median, 99th percentile and maximum; nothing for no values."""
    if not len(values):
        return {}
    low, median, high, top = np.percentile(values, (0, 50, 99, 100)).tolist()
    return {'min': low, 'median': median, 'p99': high, 'max': top}
