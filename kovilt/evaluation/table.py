"""Plain-text tables whose columns stand straight when Hangul is among them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: two for a wide character such as a Hangul syllable, none for a mark."""
    composed = unicodedata.normalize('NFC', text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in 'WF') for c in composed)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their header: the first column flush left, the others (numbers) flush right."""
    lines = [header, *rows]
    widths = [max(display_width(line[i]) for line in lines) for i in range(len(header))]
    cells = [[' ' * (width - display_width(cell)) for cell, width in zip(line, widths, strict=True)] for line in lines]
    text = [
        '  '.join(cell + pad if i == 0 else pad + cell for i, (cell, pad) in enumerate(zip(line, pads, strict=True)))
        for line, pads in zip(lines, cells, strict=True)
    ]
    text.insert(1, '  '.join('-' * width for width in widths))
    return '\n'.join(line.rstrip() for line in text)
