"""Draws samples as training receives them: the image before and after the transforms, the tokens and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps

from kovilt.files import atomic_path
from kovilt.visualization.fonts import korean_font, load_font

# Of masked language modelling: behind [MASK], replaced by a random token, predicted but unchanged; and [UNK].
TokenMark = Literal['', 'masked', 'replaced', 'unchanged', 'unknown']

RIGHT, WRONG, INK, GREY, PAPER = '#1a7f4b', '#c0392b', '#222222', '#777777', '#ffffff'
BACKGROUND, UNDERLINE, BETWEEN_CARDS = '#f1f1ee', '#bbbbbb', '#dddddd'
IMAGE_SIZE, GAP, LINE_HEIGHT = (272, 204), 12, 26  # pixels
MARK_COLOURS: dict[TokenMark, str] = {
    'masked': '#ffd9a8',
    'replaced': '#cfe0ff',
    'unchanged': '#d5efd9',
    'unknown': '#ffc9c4',
}


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

    image: None leaves its place empty; grid: (rows, columns) of patches to draw over it; matches: True draws it in a
    green frame (it belongs to the text, the answer is right), False in a red one.
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
    return save_sheet([_draw_card(card, width) for card in cards], out, columns=columns, background=BETWEEN_CARDS)


def save_sheet(cells: Sequence[Image.Image], out: str | Path, *, columns: int, background: str = PAPER) -> Path:
    """Arrange images of one width, `columns` in a row, on white, and write the PNG file `out`; returns its path."""
    width, columns = cells[0].width, min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new('RGB', (columns * (width + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1)), background)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = GAP + column * (width + GAP)
            sheet.paste(PAPER, (left, top, left + width, top + height))
            sheet.paste(cell, (left, top))
        top += height + GAP
    with atomic_path(out) as draft:
        sheet.save(draft, 'PNG', optimize=True)
    return Path(out)


def _draw_card(card: SampleCard, width: int) -> Image.Image:
    canvas = Image.new('RGB', (width, 2000), PAPER)
    draw, small = ImageDraw.Draw(canvas), load_font(14)
    draw.text((GAP, 8), card.title, GREY, small)
    top = 32 if card.title else GAP // 2
    for place, card_image in enumerate(card.images):
        _draw_image(draw, canvas, card_image, GAP // 2 + place * (IMAGE_SIZE[0] + GAP // 2), top)
    top += IMAGE_SIZE[1] + 30
    lines = card.lines if korean_font() else ()
    text_left = 2 * GAP + max((small.getlength(line.name) for line in lines), default=0)
    for line in lines:
        draw.text((GAP, top + 3), line.name, GREY, small)
        top = _draw_line(draw, line, text_left, top, width - GAP)
    return canvas.crop((0, 0, width, top + 8))


def _draw_image(draw: ImageDraw.ImageDraw, canvas: Image.Image, card_image: CardImage, left: int, top: int) -> None:
    width, height = IMAGE_SIZE
    canvas.paste(BACKGROUND, (left, top, left + width, top + height))
    if card_image.image is not None:
        image = ImageOps.contain(card_image.image.convert('RGB'), IMAGE_SIZE, Image.Resampling.LANCZOS)
        rows, columns = card_image.grid or (0, 0)
        grid = ImageDraw.Draw(image)
        for row in range(1, rows):
            grid.line((0, row * image.height / rows, image.width, row * image.height / rows), PAPER)
        for column in range(1, columns):
            grid.line((column * image.width / columns, 0, column * image.width / columns, image.height), PAPER)
        canvas.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    colour = {None: GREY, True: RIGHT, False: WRONG}[card_image.matches]
    if card_image.matches is not None:
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=4)
    draw.text((left, top + height + 4), card_image.caption, colour, load_font(14))


def _draw_line(draw: ImageDraw.ImageDraw, line: CardLine, start: float, top: int, right: int) -> int:
    """Draw a line between the pixels `start` and `right`, broken where needed; returns the top of the next line."""
    font, colour = load_font(17), WRONG if line.warning else INK
    if isinstance(line.content, str):
        for text in wrap(line.content, font, right - start, lines=3):
            draw.text((start, top), text, colour, font)
            top += LINE_HEIGHT
        return top
    left = start
    for token in line.content:
        width = font.getlength(token.text)
        left += 10 if token.starts_word and left > start else 2
        if left + width > right:
            left, top = start, top + LINE_HEIGHT
        if token.mark:
            draw.rectangle((left - 1, top, left + width + 1, top + LINE_HEIGHT - 5), fill=MARK_COLOURS[token.mark])
        draw.text((left, top), token.text, colour, font)
        draw.line((left, top + LINE_HEIGHT - 4, left + width - 1, top + LINE_HEIGHT - 4), UNDERLINE)
        if token.struck_out:
            draw.line((left, top + 11, left + width, top + 11), WRONG, 2)
        left += width
    return top + LINE_HEIGHT


def wrap(sentence: str, font: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """Break a sentence at blanks into at most `lines` lines of `width` pixels; an ellipsis replaces the rest."""
    broken: list[str] = []
    for word in sentence.split():
        if broken and font.getlength(f'{broken[-1]} {word}') <= width:
            broken[-1] += f' {word}'
        else:
            broken.append(word)
    shown = broken[:lines]
    if len(broken) > lines:
        shown[-1] += ' …'
    for place, line in enumerate(shown):
        while font.getlength(line) > width and len(line) > 2:
            line = line.removesuffix('…').rstrip()[:-1] + '…'
        shown[place] = line
    return shown
