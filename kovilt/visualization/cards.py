"""What training sees of a record: its image before and after the transforms, the pieces of its text, its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from kovilt.visualization.contact_sheet import GREY, INK, PAPER, RIGHT, WRONG, wrap
from kovilt.visualization.fonts import korean_font, load_font

Mark = Literal['', 'hidden', 'swapped', 'kept', 'unknown']

GROUND, RULE, IMAGE, GAP, LINE = '#f1f1ee', '#bbbbbb', (272, 204), 12, 26  # pixels
BOXES: dict[Mark, str] = {'hidden': '#ffd9a8', 'swapped': '#cfe0ff', 'kept': '#d5efd9', 'unknown': '#ffc9c4'}
_LEFT = 96  # where the words begin, after the name of their line


@dataclass(frozen=True)
class Piece:
    """A token as it is shown; `struck`: it stood there and was hidden."""

    text: str
    starts_word: bool
    mark: Mark = ''
    struck: bool = False


@dataclass(frozen=True)
class View:
    """An image (None: there is none), its caption and, where it was cut into patches, their grid (rows, columns)."""

    image: Image.Image | None
    caption: str
    grid: tuple[int, int] | None = None
    good: bool | None = None  # whether a pair matches; None = nothing to say


@dataclass(frozen=True)
class Line:
    """A named line of a card: text, or pieces of one."""

    name: str
    content: str | Sequence[Piece]
    good: bool = True  # False: something to look at, in red

    @property
    def text(self) -> str:
        """As plain text: what is marked stands in brackets."""
        if isinstance(self.content, str):
            return self.content
        shown = (
            f'{" " if piece.starts_word else ""}{f"[{piece.text}]" if piece.mark or piece.struck else piece.text}'
            for piece in self.content
        )
        return ''.join(shown).replace('[[', '[').replace(']]', ']').strip()


@dataclass(frozen=True)
class Card:
    """A record: up to three views and its lines."""

    title: str
    views: Sequence[View]
    lines: Sequence[Line]


def draw_cards(cards: Sequence[Card], out: str | Path, *, columns: int = 2) -> Path:
    """Draw cards in rows into the PNG `out`; returns its path.

    With no Hangul font on the machine only images and titles are drawn; the lines stand in the HTML page.
    """
    width = max(len(card.views) for card in cards) * (IMAGE[0] + GAP // 2) + GAP // 2
    drawn = [_draw_card(card, width) for card in cards]
    columns = min(columns, len(drawn))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(card.height for card in row) for row in rows]
    sheet = Image.new('RGB', (columns * (width + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1)), '#dddddd')
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, card in enumerate(row):
            left = GAP + column * (width + GAP)
            sheet.paste(PAPER, (left, top, left + width, top + height))
            sheet.paste(card, (left, top))
        top += height + GAP
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)
    return Path(out)


def _draw_card(card: Card, width: int) -> Image.Image:
    canvas = Image.new('RGB', (width, 2000), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 8), card.title, GREY, load_font(14))
    top = 32
    for place, view in enumerate(card.views):
        left = GAP // 2 + place * (IMAGE[0] + GAP // 2)
        _draw_view(canvas, view, left, top)
    top += IMAGE[1] + 30
    for line in card.lines if korean_font() else ():
        draw.text((GAP, top + 3), line.name, GREY, load_font(14))
        top = _draw_line(draw, line, top, width - GAP)
    return canvas.crop((0, 0, width, top + 8))


def _draw_view(canvas: Image.Image, view: View, left: int, top: int) -> None:
    width, height = IMAGE
    draw = ImageDraw.Draw(canvas)
    canvas.paste(GROUND, (left, top, left + width, top + height))
    if view.image is not None:
        scale = min(width / view.image.width, height / view.image.height)
        size = (max(1, round(view.image.width * scale)), max(1, round(view.image.height * scale)))
        x, y = left + (width - size[0]) // 2, top + (height - size[1]) // 2
        canvas.paste(view.image.convert('RGB').resize(size, Image.Resampling.LANCZOS), (x, y))
        for rows, columns in [view.grid] if view.grid else ():
            for row in range(rows + 1):
                draw.line((x, y + row * size[1] / rows, x + size[0], y + row * size[1] / rows), '#ffffff')
            for column in range(columns + 1):
                draw.line((x + column * size[0] / columns, y, x + column * size[0] / columns, y + size[1]), '#ffffff')
    colour = GREY if view.good is None else RIGHT if view.good else WRONG
    if view.good is not None:
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=4)
    draw.text((left, top + height + 4), view.caption, colour, load_font(14))


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, top: int, right: int) -> int:
    """Draws a line between the names and `right`, on as many rows as it needs; returns where the next begins."""
    font, colour = load_font(17), INK if line.good else WRONG
    if isinstance(line.content, str):
        for text in wrap(line.content, font, right - _LEFT, lines=3):
            draw.text((_LEFT, top), text, colour, font)
            top += LINE
        return top
    left = _LEFT
    for piece in line.content:
        width = font.getlength(piece.text)
        left += 10 if piece.starts_word and left > _LEFT else 2
        if left + width > right:
            left, top = _LEFT, top + LINE
        if piece.mark:
            draw.rectangle((left - 1, top, left + width + 1, top + LINE - 5), fill=BOXES[piece.mark])
        draw.text((left, top), piece.text, colour, font)
        draw.line((left, top + LINE - 4, left + width - 1, top + LINE - 4), RULE)
        if piece.struck:
            draw.line((left, top + 11, left + width, top + 11), WRONG, 2)
        left += width
    return top + LINE
