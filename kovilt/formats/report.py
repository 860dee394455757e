"""What became of public weights: what was kept, resized, dropped and missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ImportReport:
    """What became of foreign weights.

    encoder_coverage: numbers of the encoder, its word table apart, that come from the source (0 to 1).
    rows: what was kept, resized, ... in words.
    """

    encoder_coverage: float
    rows: Mapping[str, str]

    def __str__(self) -> str:
        return '\n'.join(f'{key:<14} {value}' for key, value in self.rows.items())
