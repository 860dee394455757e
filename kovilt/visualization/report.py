"""One HTML file that shows a run: numbers, curves, images with answers. It holds its images and loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

STYLE = """
body{font:16px/1.5 system-ui,"Apple SD Gothic Neo","Malgun Gothic","Nanum Gothic",sans-serif;max-width:1080px;
margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #ddd;padding:.3rem .9rem;text-align:right}
td:first-child,th:first-child{text-align:left}
img{max-width:100%}
figcaption,footer{color:#666;font-size:.9rem}
ol{columns:2;font-size:.9rem}
"""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; every cell is escaped, floats get two digits."""

    def cells(row: Sequence[object], tag: str) -> str:
        shown = (f'{value:.2f}' if isinstance(value, float) else str(value) for value in row)
        return '<tr>' + ''.join(f'<{tag}>{escape(text)}</{tag}>' for text in shown) + '</tr>'

    return '<table>' + cells(head, 'th') + ''.join(cells(row, 'td') for row in rows) + '</table>'


def write_report(
    out: str | Path,
    *,
    title: str,
    lead: str,
    tables: Mapping[str, str],
    images: Mapping[str, Path],
    sentences: Sequence[str] = (),
    footer: str = '',
) -> Path:
    """Write the page and return its path.

    tables: heading -> HTML of `table`; images: caption -> PNG; sentences: the lines of the contact sheet, as text.
    """
    parts = [f'<h1>{escape(title)}</h1><p>{escape(lead)}</p>']
    parts += [f'<h2>{escape(heading)}</h2>{body}' for heading, body in tables.items()]
    for caption, path in images.items():
        data = base64.b64encode(Path(path).read_bytes()).decode()
        parts.append(
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f'<figcaption>{escape(caption)}</figcaption></figure>'
        )
    if sentences:
        parts.append('<ol>' + ''.join(f'<li>{escape(line.split(". ", 1)[-1])}</li>' for line in sentences) + '</ol>')
    parts.append(f'<footer>{escape(footer)}</footer>')
    page = (
        f'<!doctype html><html lang="ko"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style></head><body>{"".join(parts)}</body></html>'
    )
    Path(out).write_text(page, encoding='utf-8')
    return Path(out)
