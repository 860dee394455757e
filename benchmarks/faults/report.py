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

_BEGIN, _END = '<!-- begin: table of make faults -->', '<!-- end -->'
_WORDS = {
    'en': (
        ('row', 'fault', 'survived/tried', 'silent'),
        'all',
        '`make faults` on {date}: {minutes:.0f} minutes on {cpu}, 2 tries at a time, Python {python}, torch {torch}.',
    ),
    'ko': (
        ('행', '고장', '견딤/시도', '조용한 실패'),
        '전체',
        '`make faults`, {date}: {cpu}에서 {minutes:.0f}분, 한 번에 2회씩, Python {python}, torch {torch}.',
    ),
}


def line(result: Result) -> str:
    """A row's result on the screen, with the reasons of the tries that did not survive."""
    row = result.row
    reasons = ''.join(f'\n    {reason}' for reason in result.reasons)
    return (
        f'{row.name} {row.title:<72} {result.survived:>4}/{result.tried:<4} silent {result.silent:<3} '
        f'{result.seconds:6.1f} s{reasons}'
    )


def summary(results: Sequence[Result], minutes: float, *, changed: bool) -> str:
    survived, tried, silent = (sum(getattr(one, name) for one in results) for name in ('survived', 'tried', 'silent'))
    text = f'all: {survived}/{tried} survived, {silent} silent, {minutes:.1f} minutes'
    return f'{text}\nthe data folder was changed' if changed else text


def write_docs(results: Sequence[Result], minutes: float) -> None:
    """Replace the table in docs/{en,ko}/reliability.md."""
    ordered = sorted(results, key=lambda result: result.row.name)
    for language, (head, total, how) in _WORDS.items():
        rows: list[list[object]] = [
            [
                one.row.name,
                one.row.title if language == 'en' else one.row.korean,
                f'{one.survived}/{one.tried}',
                one.silent,
            ]
            for one in ordered
        ]
        survived, tried, silent = (sum(getattr(r, name) for r in ordered) for name in ('survived', 'tried', 'silent'))
        rows.append([total, '', f'{survived}/{tried}', silent])
        facts = how.format(
            date=time.strftime('%Y-%m-%d'),
            minutes=minutes,
            cpu=cpu_name(),
            python=platform.python_version(),
            torch=version('torch'),
        )
        path = Path(ROOT, 'docs', language, 'reliability.md')
        content = f'{_BEGIN}\n\n{markdown_table(head, rows)}\n\n{facts}\n\n{_END}'
        text, count = re.subn(f'{_BEGIN}.*?{_END}', lambda _: content, path.read_text('utf-8'), flags=re.S)  # noqa: B023
        if count != 1:
            sys.exit(f'{path}: it has no place for the table')
        path.write_text(text, 'utf-8')
