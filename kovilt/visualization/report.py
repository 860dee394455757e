"""Writes an HTML page that shows a run: tables, curves, images with answers. The page contains all of its images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from kovilt.files import write_text
from kovilt.terminal import printable

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
    return write_page(
        out,
        'report.html.j2',
        title=title,
        lead=lead,
        tables=tables,
        images={caption: base64.b64encode(Path(png).read_bytes()).decode() for caption, png in images.items()},
        sentences=sentences,
        footer=footer,
    )


def write_page(out: str | Path, template: str, **values: object) -> Path:
    """Write the HTML page of a template of this folder, with every text escaped, and return its path."""
    write_text(out, render(template, **values) + '\n')
    return Path(out)


def render(template: str, **values: object) -> str:
    """The HTML of a template of this folder, with every text escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('kovilt.visualization', '.'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_control_characters,
    )
    return environment.get_template(template).render(values)


def _without_control_characters(value: object) -> object:
    """A text that a template shows, `printable`, so that no mark reverses the text after it; HTML stays as it is."""
    return printable(value, keep='\n') if isinstance(value, str) and not hasattr(value, '__html__') else value
