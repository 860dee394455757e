"""The report on public weights that were loaded: how much of the encoder they gave, and what became of each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ImportReport:
    """What was kept, resized, rebuilt, new or dropped when public weights were loaded.

    encoder_coverage: share (0 to 1) of the encoder's parameters that come from the source, word embeddings apart.
    details: one line of text for each heading, such as 'kept' or 'dropped'.
    """

    encoder_coverage: float
    details: Mapping[str, str]

    def __str__(self) -> str:
        return '\n'.join(f'{heading:<14} {text}' for heading, text in self.details.items())


def shorten_list(items: Iterable[str], limit: int = 3, separator: str = ', ') -> str:
    """The first `limit` items as text, and how many more there are: 'a, b, c and 5 more'."""
    items = list(items)
    more = f' and {len(items) - limit} more' if len(items) > limit else ''
    return separator.join(items[:limit]) + more
