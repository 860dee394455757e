"""The whole walk of a verification: rows of each split, then all images, then what splits share; and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.errors import KoviltError
from kovilt.verification.findings import KINDS, SEVERITIES, Findings
from kovilt.verification.images import ImageCheck, Place, Progress, check_images, same_content
from kovilt.verification.rows import SplitRows, note_refusal, read_split
from kovilt.verification.sources import DataSource
from kovilt.verification.splits import check_dev, check_leaks, check_lengths, check_rows

MOST_ANSWERS = 100  # of the histogram in the report


@dataclass(frozen=True)
class Report:
    """What was found, and what was counted on the way."""

    findings: Findings
    splits: list[dict[str, Any]]
    images: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values: `findings` holds the first of each code, `counts` how many there are."""
        listed = [{'severity': found.severity, **found._asdict(), 'remedy': found.remedy} for found in self.findings]
        return {
            'severities': self.findings.severities(),
            'counts': dict(self.findings.counts),
            'splits': self.splits,
            'images': self.images,
            'findings': listed,
        }

    def lines(self, most: int) -> list[str]:
        """For a terminal: what was read, then each code with its first `most` places, the gravest first."""
        lines = [
            f'{split["reader"]} {split["split"]}: {split["rows"]:,} rows on {split["images"]:,} images'
            for split in self.splits
        ]
        for code in dict.fromkeys(found.code for found in self.findings):
            count, (severity, remedy) = self.findings.counts[code], KINDS[code]
            lines.append(f'\n{severity}  {code}  {count:,}' + (f'  ({remedy})' if remedy else ''))
            lines += [f'  {found.place}: {found.what}' for found in self.findings.of(code)[:most]]
            lines += [f'  and {count - most:,} more'] if count > most else []
        totals = self.findings.severities()
        lines.append('\n' + ', '.join(f'{totals[name]:,} {name}{"s" * (totals[name] != 1)}' for name in SEVERITIES))
        return lines


def verify(sources: Sequence[DataSource], *, deep: bool, workers: int, progress: Progress) -> Report:
    """ImageCheck at everything that the splits hold.

    Args:
        sources: as `sources_of_config` or `sources_of_folder` found them.
        deep: decode every image, instead of reading its header.
        workers: processes that check at images.
        progress: told the images done and all of them.
    """
    findings = Findings()
    splits = [read_split(source, findings) for source in sources]
    counted = [_check_alone(split, findings) for split in splits]
    images, same = _check_images(splits, findings, deep=deep, workers=workers, progress=progress)
    for training in (split for split in splits if split.source.training and len(split)):
        for dev in (split for split in splits if not split.source.training and _is_dev_of(split, training)):
            check_dev(training, dev, findings)
            check_leaks(training, dev, same, findings)
    _check_pairing(sources, findings)
    return Report(findings, counted, images)


def _is_dev_of(dev: SplitRows, training: SplitRows) -> bool:
    return dev.source.reader is training.source.reader


def _check_pairing(sources: Sequence[DataSource], findings: Findings) -> None:
    """A set of which only one side is there."""
    for reader in dict.fromkeys(source.reader for source in sources):
        own = [source for source in sources if source.reader is reader]
        for wanted, name in ((True, 'train'), (False, 'dev')):
            if all(source.training is not wanted for source in own):
                findings.add('split.absent', own[0].place, f'{reader.__name__} has no {name} split')


def _check_alone(split: SplitRows, findings: Findings) -> dict[str, Any]:
    """The checks within a split; returns what the report counts of it."""
    source = split.source
    if not len(split) and not split.refused:
        findings.add('split.empty', source.place, f'{source} has no rows')
    check_rows(split, findings)
    tokenizer = _tokenizer(source, findings)
    lengths, unknown = check_lengths(split, tokenizer, findings)
    answers = split.answer_rows()
    return {
        'reader': source.reader.__name__,
        'split': source.name,
        'data_root': source.place,
        'rows': len(split),
        'images': len(split.first_rows()),
        'rows_per_image': _spread(np.bincount(split.images)[np.unique(split.images)]),
        'text_length': {'unit': 'characters' if tokenizer is None else 'pieces', **_spread(lengths)},
        'unknown_pieces': unknown,
        'distinct_answers': len(answers),
        'answers': dict(answers.most_common(MOST_ANSWERS)),
        'answer_types': dict(Counter(split.answer_type[row] for row in range(len(split))).most_common()),
    }


def _tokenizer(source: DataSource, findings: Findings) -> Any:
    if source.tokenizer is None:
        return None
    try:
        return load_tokenizer(source.tokenizer)
    except KoviltError as error:
        note_refusal('tokenizer.refused', error, findings)
        return None


def _check_images(
    splits: Sequence[SplitRows], findings: Findings, *, deep: bool, workers: int, progress: Progress
) -> tuple[dict[str, Any], list[set[str]]]:
    """Every image once, whichever splits it is in; returns what is counted, and sets of paths of equal content."""
    asked: dict[str, tuple[Place, str]] = {}  # path -> where it lies, the row that speaks of it first
    for split in splits:
        for image, row in split.first_rows().items():
            place, name = split.places[image], split.places.name(image)
            if place is None:
                findings.add('image.missing', split.place(row), f'{name} is not there')
            else:
                asked.setdefault(str(place), (place, split.place(row)))
    paths, places = list(asked), [place for place, _ in asked.values()]
    checks = list(check_images(places, deep=deep, workers=workers, progress=progress))
    for path, check in zip(paths, checks, strict=True):
        for code, what in check.faults:
            row = asked[path][1]
            if code == 'image.missing':
                findings.add(code, row, f'{path} is not there')
            else:
                findings.add(code, path, f'{what} ({row})')
    same = same_content(places, checks, workers=workers)
    groups = [[paths[number] for number in group] for group in same]
    return _counted(checks), _note_repeats(groups, splits, findings)


def _note_repeats(groups: list[list[str]], splits: Sequence[SplitRows], findings: Findings) -> list[set[str]]:
    """Notes images that a split has twice; those shared between splits are `check_leaks`'s."""
    for split in splits:
        own = {split.places.name(image) for image in split.first_rows()}
        for group in groups:
            first, *others = [path for path in group if path in own] or ['']
            for path in others:
                findings.add('image.repeated', path, f'the same bytes as {first}')
    return [set(group) for group in groups]


def _counted(checks: Sequence[ImageCheck]) -> dict[str, Any]:
    forms = [check.form for check in checks if check.form]
    return {
        'looked_at': len(checks),
        'bytes': sum(check.size for check in checks),
        'formats': dict(Counter(form[0] for form in forms)),
        'modes': dict(Counter(form[1] for form in forms)),
        'width': _spread([form[2] for form in forms]),
        'height': _spread([form[3] for form in forms]),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Least, median, 99th percentile and most; nothing of no values."""
    if not len(values):
        return {}
    least, median, high, most = np.percentile(values, (0, 50, 99, 100)).tolist()
    return {'min': least, 'median': median, 'p99': high, 'max': most}
