"""Plain-text tables whose columns stay aligned when some cells hold Hangul."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from kovilt.terminal import printable


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows below their header. The first column is left-aligned, the others (numbers) are right-aligned.

    Widths are counted in terminal columns: a Hangul syllable takes two.
    """
    rows = [[printable(cell) for cell in row] for row in rows]  # names of answer types come from data
    widths = [max(cell_len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def align(line: Sequence[str]) -> str:
        blanks = [' ' * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        numbers = [blank + cell for cell, blank in zip(line[1:], blanks[1:], strict=True)]
        return '  '.join([line[0] + blanks[0], *numbers])

    lines = [align(header), '  '.join('-' * width for width in widths), *map(align, rows)]
    return '\n'.join(line.rstrip() for line in lines)
