"""Writes an HTML page that shows a run: tables, curves, images with answers. The page contains all of its images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from kovilt.files import write_text

ReportTable = tuple[Sequence[str], Sequence[Sequence[object]]]  # header, rows


def write_report(
    out: str | Path,
    *,
    title: str,
    lead: str,
    tables: Mapping[str, ReportTable],
    images: Mapping[str, Path],
    sentences: Sequence[str] = (),
    footer: str = '',
) -> Path:
    """Write the page from the template report.html.j2, which escapes every text, and return its path.

    Args:
        lead: the paragraph below the title.
        tables: heading -> (header, rows); floats are shown with two digits.
        images: caption -> PNG file.
        sentences: a numbered list, such as the questions of a contact sheet as text.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader('kovilt.visualization', '.')
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template('report.html.j2').render(
        title=title,
        lead=lead,
        tables=tables,
        images={caption: base64.b64encode(Path(png).read_bytes()).decode() for caption, png in images.items()},
        sentences=sentences,
        footer=footer,
    )
    write_text(out, page + '\n')
    return Path(out)
