"""Draws a sheet of images, each with its question, the predicted answer and the correct one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kovilt.files import write_text
from kovilt.visualization.cards import CardImage, CardLine, SampleCard, draw_cards


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

    def card(self, number: int) -> SampleCard:
        caption = f'{number}  {"right" if self.right else "wrong"}  {self.score:.0%}'
        lines = [CardLine('질문', self.question), CardLine('답', self.answer, warning=not self.right)]
        if not self.right:
            lines.append(CardLine('정답', self.ground_truth))
        return SampleCard('', [CardImage(self.image, caption, matches=self.right)], lines)


def draw_contact_sheet(items: Sequence[AnsweredQuestion], out: str | Path, *, columns: int = 4) -> Path:
    """Draw a card for each question into the PNG file `out`, `columns` in a row; returns its path.

    `out` with the suffix .txt lists the same as text.
    """
    lines = [f'{number}. {item.sentence()}\n' for number, item in enumerate(items, 1)]
    write_text(Path(out).with_suffix('.txt'), ''.join(lines))
    return draw_cards([item.card(number) for number, item in enumerate(items, 1)], out, columns=columns)
