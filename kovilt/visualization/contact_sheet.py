"""Draws a sheet of images, each with its question, the predicted answer and the correct one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kovilt.visualization.fonts import korean_font, load_font

RIGHT, WRONG, INK, GREY, PAPER = '#1a7f4b', '#c0392b', '#222222', '#777777', '#ffffff'


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question about an image with the predicted and the correct answer. score: softmax probability, 0 to 1."""

    image: Image.Image
    question: str
    answer: str
    ground_truth: str
    score: float

    @property
    def right(self) -> bool:
        return self.answer == self.ground_truth

    def sentence(self) -> str:
        mark = 'O' if self.right else 'X'
        return f'{self.question}  답: {self.answer} ({self.score:.0%})  정답: {self.ground_truth}  {mark}'


def draw_contact_sheet(
    items: Sequence[AnsweredQuestion], out: str | Path, *, columns: int = 4, width: int = 300
) -> Path:
    """Draw the questions into the PNG file `out`, `columns` in a row, each `width` pixels wide; returns its path.

    `out` with the suffix .txt lists the same as text. Without a Hangul font the cells show only the numbers of its
    lines.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'{number}. {item.sentence()}' for number, item in enumerate(items, 1)]
    out.with_suffix('.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')

    height, gap = width * 3 // 4, 14
    caption = 92
    rows = -(-len(items) // columns)
    sheet = Image.new('RGB', (columns * (width + gap) + gap, rows * (height + caption + gap) + gap), PAPER)
    for number, item in enumerate(items, 1):
        row, column = divmod(number - 1, columns)
        cell = _cell(number, item, width, height, caption)
        sheet.paste(cell, (gap + column * (width + gap), gap + row * (height + caption + gap)))
    sheet.save(out, optimize=True)
    return out


def _cell(number: int, item: AnsweredQuestion, width: int, height: int, caption: int) -> Image.Image:
    cell = Image.new('RGB', (width, height + caption), PAPER)
    image = item.image.convert('RGB')
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    cell.paste('#f1f1ee', (0, 0, width, height))
    cell.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    draw = ImageDraw.Draw(cell)
    colour = RIGHT if item.right else WRONG
    draw.rectangle((0, height, width, height + 4), fill=colour)
    text, top = load_font(16), height + 12
    if korean_font() is None:
        draw.text((0, top), f'{number}  {"right" if item.right else "wrong"}  {item.score:.0%}', colour, text)
        return cell
    for line in wrap(item.question, text, width, lines=2):
        draw.text((0, top), line, INK, text)
        top += 22
    top = height + caption - 32
    answer = f'{item.answer} {item.score:.0%}'
    draw.text((0, top), answer, colour, load_font(20))
    if not item.right:
        end = draw.textlength(answer, load_font(20))
        draw.text((end + 12, top + 4), f'정답 {item.ground_truth}', GREY, text)
    return cell


def wrap(sentence: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Break a sentence at blanks into at most `lines` lines of `width` pixels; an ellipsis replaces the rest."""
    broken: list[str] = []
    for word in sentence.split():
        longer = f'{broken[-1]} {word}' if broken else word
        if broken and font.getlength(longer) <= width:
            broken[-1] = longer
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
