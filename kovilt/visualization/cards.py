"""Draws samples as training receives them: the image before and after the transforms, the tokens and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from kovilt.visualization.contact_sheet import GREY, INK, PAPER, RIGHT, WRONG, wrap
from kovilt.visualization.fonts import korean_font, load_font

# Of masked language modelling: behind [MASK], replaced by a random token, predicted but unchanged; and [UNK].
TokenMark = Literal['', 'masked', 'replaced', 'unchanged', 'unknown']

BACKGROUND, UNDERLINE = '#f1f1ee', '#bbbbbb'
IMAGE_SIZE, GAP, LINE_HEIGHT = (272, 204), 12, 26  # pixels
MARK_COLOURS: dict[TokenMark, str] = {
    'masked': '#ffd9a8',
    'replaced': '#cfe0ff',
    'unchanged': '#d5efd9',
    'unknown': '#ffc9c4',
}
_TEXT_LEFT = 96  # pixels; where the text begins, after the name of its line


@dataclass(frozen=True)
class CardToken:
    """A token. starts_word: the first of its word; struck_out: crossed out, because the model does not see it."""

    text: str
    starts_word: bool
    mark: TokenMark = ''
    struck_out: bool = False


@dataclass(frozen=True)
class CardImage:
    """An image with its caption.

    image: None leaves its place empty; grid: (rows, columns) of patches to draw over it; matches: whether it belongs to
    the text, None = not asked.
    """

    image: Image.Image | None
    caption: str
    grid: tuple[int, int] | None = None
    matches: bool | None = None


@dataclass(frozen=True)
class CardLine:
    """A named line of text or of tokens. warning: draw it in red."""

    name: str
    content: str | Sequence[CardToken]
    warning: bool = False

    @property
    def text(self) -> str:
        """The line as plain text, with marked tokens in brackets."""
        if isinstance(self.content, str):
            return self.content
        shown = (
            f'{" " if token.starts_word else ""}{f"[{token.text}]" if token.mark or token.struck_out else token.text}'
            for token in self.content
        )
        return ''.join(shown).replace('[[', '[').replace(']]', ']').strip()


@dataclass(frozen=True)
class SampleCard:
    """A sample: up to three images side by side, and lines below them."""

    title: str
    images: Sequence[CardImage]
    lines: Sequence[CardLine]


def draw_cards(cards: Sequence[SampleCard], out: str | Path, *, columns: int = 2) -> Path:
    """Draw the cards into the PNG file `out`, `columns` in a row; returns its path.

    Without a Hangul font on the machine the lines are left out; the HTML page has them.
    """
    width = max(len(card.images) for card in cards) * (IMAGE_SIZE[0] + GAP // 2) + GAP // 2
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


def _draw_card(card: SampleCard, width: int) -> Image.Image:
    canvas = Image.new('RGB', (width, 2000), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 8), card.title, GREY, load_font(14))
    top = 32
    for place, card_image in enumerate(card.images):
        left = GAP // 2 + place * (IMAGE_SIZE[0] + GAP // 2)
        _draw_image(canvas, card_image, left, top)
    top += IMAGE_SIZE[1] + 30
    for line in card.lines if korean_font() else ():
        draw.text((GAP, top + 3), line.name, GREY, load_font(14))
        top = _draw_line(draw, line, top, width - GAP)
    return canvas.crop((0, 0, width, top + 8))


def _draw_image(canvas: Image.Image, card_image: CardImage, left: int, top: int) -> None:
    image, (width, height) = card_image.image, IMAGE_SIZE
    draw = ImageDraw.Draw(canvas)
    canvas.paste(BACKGROUND, (left, top, left + width, top + height))
    if image is not None:
        scale = min(width / image.width, height / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        x, y = left + (width - size[0]) // 2, top + (height - size[1]) // 2
        canvas.paste(image.convert('RGB').resize(size, Image.Resampling.LANCZOS), (x, y))
        if card_image.grid is not None:
            rows, columns = card_image.grid
            for row in range(rows + 1):
                draw.line((x, y + row * size[1] / rows, x + size[0], y + row * size[1] / rows), '#ffffff')
            for column in range(columns + 1):
                draw.line((x + column * size[0] / columns, y, x + column * size[0] / columns, y + size[1]), '#ffffff')
    colour = GREY if card_image.matches is None else RIGHT if card_image.matches else WRONG
    if card_image.matches is not None:
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=4)
    draw.text((left, top + height + 4), card_image.caption, colour, load_font(14))


def _draw_line(draw: ImageDraw.ImageDraw, line: CardLine, top: int, right: int) -> int:
    """Draw a line up to the pixel `right`, broken where needed; returns the top of the next line."""
    font, colour = load_font(17), WRONG if line.warning else INK
    if isinstance(line.content, str):
        for text in wrap(line.content, font, right - _TEXT_LEFT, lines=3):
            draw.text((_TEXT_LEFT, top), text, colour, font)
            top += LINE_HEIGHT
        return top
    left = float(_TEXT_LEFT)
    for token in line.content:
        width = font.getlength(token.text)
        left += 10 if token.starts_word and left > _TEXT_LEFT else 2
        if left + width > right:
            left, top = _TEXT_LEFT, top + LINE_HEIGHT
        if token.mark:
            draw.rectangle((left - 1, top, left + width + 1, top + LINE_HEIGHT - 5), fill=MARK_COLOURS[token.mark])
        draw.text((left, top), token.text, colour, font)
        draw.line((left, top + LINE_HEIGHT - 4, left + width - 1, top + LINE_HEIGHT - 4), UNDERLINE)
        if token.struck_out:
            draw.line((left, top + 11, left + width, top + 11), WRONG, 2)
        left += width
    return top + LINE_HEIGHT
