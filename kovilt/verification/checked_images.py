"""Checks the images of all splits, each once, and finds equal ones and copies among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kovilt.verification.copies import find_copies
from kovilt.verification.figures import quantiles
from kovilt.verification.findings import Findings, ImageLocation
from kovilt.verification.images import ReportProgress, check_images, group_equal_content
from kovilt.verification.rows import SplitRows

DECODED_BELOW = 10_000  # images; so many are decoded in a minute, more by their headers unless the user asks


class CheckedImages:
    """The images of all splits by their paths; their faults are added to the findings.

    Args:
        deep: decode every image; None = if there are fewer than DECODED_BELOW.
        workers: processes that check images.
        progress: called with the number of images checked and of all images.
    """

    def __init__(
        self,
        splits: Sequence[SplitRows],
        findings: Findings,
        *,
        deep: bool | None,
        workers: int,
        progress: ReportProgress,
    ) -> None:
        self._workers = workers
        self._places: list[ImageLocation] = []
        self._number_of: dict[str, int] = {}  # path -> position in `_places`
        first_rows = []
        for split in splits:
            for image, row in split.first_rows().items():
                place = split.places[image]
                if place is None:
                    findings.add('image.missing', split.place(row), f'{split.places.name(image)} is not there')
                elif self._number_of.setdefault(str(place), len(self._places)) == len(self._places):
                    self._places.append(place)
                    first_rows.append(split.place(row))
        self.decoded = len(self._places) < DECODED_BELOW if deep is None else deep
        self._checks = list(check_images(self._places, deep=self.decoded, workers=workers, progress=progress))
        for path, row_place, place, check in zip(self._number_of, first_rows, self._places, self._checks, strict=True):
            for code, description in check.faults:
                if code == 'image.missing':
                    findings.add(code, row_place, f'{path} is not there')
                else:
                    findings.add(code, path, f'{description} ({row_place})', (place,))
        paths = list(self._number_of)
        self._equal = [
            [paths[number] for number in group]
            for group in group_equal_content(self._places, self._checks, workers=workers)
        ]
        self._group_of = {path: group for group in self._equal for path in group}
        self._add_repeated(splits, findings)

    def _add_repeated(self, splits: Sequence[SplitRows], findings: Findings) -> None:
        """Images of equal content within one split; `check_leaks` finds those of two splits."""
        for split in splits:
            own = {split.places.name(image) for image in split.first_rows()}
            for group in self._equal:
                first, *others = [path for path in group if path in own] or ['']
                for path in others:
                    description = f'the same bytes as {first}'
                    findings.add('image.repeated', path, description, self.locations(path, first))

    def locations(self, *paths: str) -> tuple[ImageLocation, ...]:
        """Where images lie."""
        return tuple(self._places[self._number_of[path]] for path in paths)

    def equal_to(self, path: str) -> list[str]:
        """The images of the same bytes, itself among them if there are others."""
        return self._group_of.get(path, [])

    def find_copies(self, suspects: Iterable[str], originals: Iterable[str]) -> dict[str, str]:
        """The suspects that are copies of an original, with that original, as paths; none unless `decoded`."""
        paths = list(self._number_of)
        ours, theirs = (
            [self._number_of[path] for path in group if path in self._number_of] for group in (suspects, originals)
        )
        fingerprints = [check.fingerprint for check in self._checks]
        found = find_copies(self._places, fingerprints, ours, theirs, workers=self._workers)
        return {paths[suspect]: paths[original] for suspect, original in found.items()}

    def figures(self) -> dict[str, Any]:
        """Counts and sizes for the report."""
        headers = [check.header for check in self._checks if check.header]
        return {
            'checked': len(self._checks),
            'decoded': self.decoded,
            'bytes': sum(check.size for check in self._checks),
            'formats': dict(Counter(header[0] for header in headers)),
            'modes': dict(Counter(header[1] for header in headers)),
            'width': quantiles([header[2] for header in headers]),
            'height': quantiles([header[3] for header in headers]),
        }
