"""Writes an HTML page that shows a run: tables, figures, cards of samples. The page contains all of its images.

A page is a list of sections, and a section a list of blocks. Every text is escaped by the template, because questions,
answers and file names come from strangers. Hangul stands in the page as text, never in an image.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from kovilt.files import write_text
from kovilt.terminal import printable

ReportTable = tuple[Sequence[str], Sequence[Sequence[object]]]  # header, rows
_MIN_SECTIONS_TO_LIST = 4  # of a page with a table of contents


@dataclass(frozen=True)
class Bar:
    """A cell of a table: a percentage with its interval, as text and as a bar."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        return f'{self.value:.1f}' + ('' if self.low is None else f' ({self.low:.1f} to {self.high:.1f})')


@dataclass(frozen=True)
class Paragraph:
    text: str
    kind = 'paragraph'


@dataclass(frozen=True)
class Table:
    """A table. Floats are shown with two digits; the columns `texts`, by number, hold text and are left-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ''
    texts: Sequence[int] = (0,)
    kind = 'table'


@dataclass(frozen=True)
class Figure:
    """An image. `data` is what `data_url` makes of a file; alt: what it shows, for those who do not see it."""

    data: str
    caption: str
    alt: str = ''
    kind = 'figure'


@dataclass(frozen=True)
class FigureRow:
    """Images of one width (in rem) side by side, each with its caption, and what they show together."""

    figures: Sequence[Figure]
    caption: str = ''
    width: int = 10
    kind = 'figure_row'


@dataclass(frozen=True)
class Scale:
    """What the colours of the figures above mean: CSS colours from least to most, and the values at both ends."""

    colours: Sequence[str]
    low: str
    high: str
    kind = 'scale'


@dataclass(frozen=True)
class Card:
    """A sample: its image, if there is one, and named lines. `is_right`: of an answer; None where nothing is judged."""

    lines: Sequence[tuple[str, str]]
    image: str = ''  # what `data_url` makes of it
    is_right: bool | None = None


@dataclass(frozen=True)
class Cards:
    cards: Sequence[Card]
    caption: str = ''
    kind = 'cards'


@dataclass(frozen=True)
class Listing:
    """A long text that is shown when its summary is opened."""

    summary: str
    text: str
    kind = 'listing'


@dataclass(frozen=True)
class NumberedList:
    texts: Sequence[str]
    kind = 'list'


Block = Paragraph | Table | Figure | FigureRow | Scale | Cards | Listing | NumberedList


@dataclass(frozen=True)
class Section:
    """A part of a page; one without a title is not in the table of contents."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def data_url(content: bytes, kind: str) -> str:
    """A file as part of a page; kind: 'png', 'jpeg' or 'svg+xml'."""
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def image_url(image: Image.Image, longest_side: int) -> str:
    """An image, made smaller if need be, as a JPEG within a page."""
    image = image.convert('RGB')
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=80)
    return data_url(buffer.getvalue(), 'jpeg')


def write_report(
    out: str | Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section] = (),
    tables: Mapping[str, ReportTable] | None = None,
    images: Mapping[str, Path] | None = None,
    sentences: Sequence[str] = (),
    footer: str = '',
) -> Path:
    """Write the page from the template report.html.j2 and return its path.

    Args:
        lead: the paragraph below the title.
        sections: what the page shows first.
        tables: further sections, heading -> (header, rows).
        images: further figures, caption -> PNG file.
        sentences: a numbered list at the end, such as the questions of a contact sheet as text.
    """
    parts = [*sections, *(Section(heading, [Table(*table)]) for heading, table in (tables or {}).items())]
    figures = {caption: data_url(Path(png).read_bytes(), 'png') for caption, png in (images or {}).items()}
    parts += [Section('', [Figure(data, caption, caption) for caption, data in figures.items()])] if figures else []
    parts += [Section('', [NumberedList(sentences)])] if sentences else []
    contents = [(number, section.title) for number, section in enumerate(parts, 1) if section.title]
    return write_page(
        out,
        'report.html.j2',
        title=title,
        lead=lead,
        sections=parts,
        contents=contents if len(contents) >= _MIN_SECTIONS_TO_LIST else [],
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
