"""The result of the suite on the screen and in the documentation."""

from __future__ import annotations

import platform
import re
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.faults.suite import Result
from benchmarks.fixtures import ROOT
from benchmarks.report import markdown_table
from benchmarks.timing import cpu_name

BEGIN, END = '<!-- begin: table of make faults -->', '<!-- end -->'
_HEADS = {'en': ('row', 'fault', 'survived/tried', 'silent'), 'ko': ('행', '고장', '견딤/시도', '조용한 실패')}
_TOTAL = {'en': 'all', 'ko': '전체'}
_HOW = {
    'en': '`make faults` on {date}: {minutes:.0f} minutes ({processor:.0f} of processor time) on {cpu}, two tries at a '
    'time, Python {python}, torch {torch}.',
    'ko': '`make faults`, {date}: {cpu}에서 {minutes:.0f}분(프로세서 시간 {processor:.0f}분), 한 번에 두 시도, '
    'Python {python}, torch {torch}.',
}


def line(result: Result) -> str:
    """A row's result on the screen, with the reasons of the tries that did not survive."""
    row = result.row
    reasons = ''.join(f'\n    {reason}' for reason in result.reasons)
    return (
        f'{row.name} {row.title:<72} {result.survived:>4}/{result.tried:<4} silent {result.silent:<3} '
        f'{result.seconds:6.1f} s{reasons}'
    )


def totals(results: Sequence[Result]) -> tuple[int, int, int]:
    """How many tries of all rows survived, were made, and were silent."""
    return tuple(sum(getattr(one, name) for one in results) for name in ('survived', 'tried', 'silent'))


def summary(results: Sequence[Result], minutes: float, processor_minutes: float, *, changed: bool) -> str:
    survived, tried, silent = totals(results)
    text = f'all: {survived}/{tried} survived, {silent} silent, {minutes:.1f} minutes'
    text += f' ({processor_minutes:.1f} of processor time)'
    return f'{text}\nthe data folder was changed' if changed else text


def write_docs(results: Sequence[Result], minutes: float, processor_minutes: float) -> None:
    """Replace the table in docs/{en,ko}/reliability.md."""
    ordered = sorted(results, key=lambda result: result.row.name)
    survived, tried, silent = totals(results)
    for language, head in _HEADS.items():
        rows: list[list[object]] = []
        for one in ordered:
            title = one.row.title if language == 'en' else one.row.korean
            rows.append([one.row.name, title, f'{one.survived}/{one.tried}', one.silent])
        rows.append([_TOTAL[language], '', f'{survived}/{tried}', silent])
        facts = _HOW[language].format(
            date=time.strftime('%Y-%m-%d'),
            minutes=minutes,
            processor=processor_minutes,
            cpu=cpu_name(),
            python=platform.python_version(),
            torch=version('torch'),
        )
        path = Path(ROOT, 'docs', language, 'reliability.md')
        content = f'{BEGIN}\n\n{markdown_table(head, rows)}\n\n{facts}\n\n{END}'
        text, count = re.subn(f'{BEGIN}.*?{END}', lambda _: content, path.read_text('utf-8'), flags=re.S)  # noqa: B023
        if count != 1:
            sys.exit(f'{path}: it has no place for the table')
        path.write_text(text, 'utf-8')
