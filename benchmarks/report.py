"""Tables in Markdown on the screen, and the same numbers for a JSON file."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose first column is flush left and whose others, numbers, are flush right."""
    lines = ['| ' + ' | '.join(map(format_number, line)) + ' |' for line in (head, *rows)]
    lines.insert(1, '|---' + '|---:' * (len(head) - 1) + '|')
    return '\n'.join(lines)


def format_number(value: object) -> str:
    """Floats with about three digits, None as an empty cell, anything else as it is."""
    if value is None:
        return ''
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < 0.01:
        return f'{value:.1e}'
    return f'{value:,.3f}' if abs(value) < 10 else f'{value:,.1f}'


class Report:
    """Runs the sections of a benchmark, prints their tables and collects their numbers.

    Attributes:
        numbers: by section, the rows of its tables as dictionaries.
        failed: names of the sections that raised an error or were not started.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = {}
        self.failed: list[str] = []

    def add_table(self, section: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        print('\n' + markdown_table(head, rows), flush=True)
        self.numbers.setdefault(section, []).extend(dict(zip(head, row, strict=True)) for row in rows)

    def add_line(self, section: str, text: str, **numbers: Any) -> None:
        print(text, flush=True)
        self.numbers.setdefault(section, []).append(numbers)

    def run_section(self, name: str, run: Callable[[], None]) -> None:
        """Run a section; an error prints its traceback and leaves the other sections to run."""
        print(f'\n## {name}', flush=True)
        start = time.perf_counter()
        try:
            run()
        except Exception:
            self.failed.append(name)
            print(traceback.format_exc())
        print(f'\n({name}: {time.perf_counter() - start:.1f} s)', flush=True)
