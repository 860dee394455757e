"""Draws where a model looks: heat maps of patches over an image, shaded words, and the page that shows both."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kovilt.visualization.cards import GAP, GREY, INK, PAPER, save_sheet
from kovilt.visualization.fonts import korean_font, load_font
from kovilt.visualization.heatmap import WIDTH, above_uniform, captioned_panel, heat_colour, overlay
from kovilt.visualization.report import render, write_page

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
_PAGE_WIDTH = 480  # pixels of the large image of the page
_SCALE_HEIGHT = 44  # pixels, with its numbers


class ExplainedWord(NamedTuple):
    """A word of the question: its share of all relevance, 0 to 1, and the mass (rows, columns) that it sends."""

    text: str
    share: float
    plan: np.ndarray | None


class ExplainedImage(NamedTuple):
    """What is drawn. Patches cover the `part` of the image.

    Attributes:
        image: upright, RGB.
        part: in pixels of the image.
        patches: (rows, columns), share of all relevance, 0 to 1.
        question, answer, score: what was asked, and the answer that is explained with its softmax probability.
        best: the answer that the model gives or, if it abstains, would give, where it is another.
        abstention: what the model answers in its place; None = it does not abstain.
        words: of the question, as far as the model reads it.
    """

    image: Image.Image
    part: Box
    patches: np.ndarray
    question: str
    answer: str
    score: float
    best: str | None
    abstention: str | None
    words: Sequence[ExplainedWord]


def draw_explanation(explained: ExplainedImage, out: str | Path) -> Path:
    """Draw the PNG file `out`: the image, its relevance with a scale, and a panel for the plan of each word.

    Without a Hangul font a panel shows the number of its word; the page has the words.
    """
    has_font = korean_font() is not None
    name = f'relevance: {explained.answer}' if has_font else 'relevance'
    relevance = captioned_panel(relevance_image(explained, WIDTH), name)
    with_scale = Image.new('RGB', (WIDTH, relevance.height + _SCALE_HEIGHT), PAPER)
    with_scale.paste(relevance, (0, 0))
    with_scale.paste(_draw_scale(float(explained.patches.max())), (0, relevance.height))
    panels = [captioned_panel(_at_width(explained.image, WIDTH), 'image'), with_scale]
    for number, (word, shown) in enumerate(plan_images(explained, WIDTH), 1):
        panels.append(captioned_panel(shown, f'plan: {word.text}' if has_font else f'plan of word {number}'))
    return save_sheet(panels, out, columns=4)


def explanation_html(explained: ExplainedImage) -> str:
    """A part of a page that shows the explanation, with its images inside, for a notebook."""
    return render('explanation_part.html.j2', **_page_values(explained))


def write_explanation_page(explained: ExplainedImage, out: str | Path, *, title: str, footer: str) -> Path:
    """Write a page with what `explanation_html` gives; it opens without a network."""
    return write_page(out, 'explanation.html.j2', title=title, footer=footer, **_page_values(explained))


def _page_values(explained: ExplainedImage) -> dict[str, object]:
    largest = max((word.share for word in explained.words), default=0.0) or 1.0
    return dict(
        explained=explained,
        image=_as_base64(_at_width(explained.image, _PAGE_WIDTH)),
        relevance=_as_base64(relevance_image(explained, _PAGE_WIDTH)),
        largest=float(explained.patches.max()),
        on_image=float(explained.patches.sum()),
        colours=[_as_hex(strength) for strength in np.linspace(0, 1, 5)],
        words=[(word.text, word.share, word.share / largest) for word in explained.words],
        plans=[(word.text, _as_base64(shown)) for word, shown in plan_images(explained, WIDTH)],
    )


def relevance_image(explained: ExplainedImage, width: int) -> Image.Image:
    """The image, `width` pixels wide, coloured by relevance; the most relevant patch has the strongest colour."""
    most = float(explained.patches.max())
    patches = explained.patches / most if most > 0 else explained.patches
    return heat_over(explained.image, explained.part, patches, width)


def plan_images(explained: ExplainedImage, width: int) -> list[tuple[ExplainedWord, Image.Image]]:
    """The words whose plan is known, with its image, `width` pixels wide; one colour scale for all."""
    known = [(word, word.plan) for word in explained.words if word.plan is not None]
    if not known:
        return []
    excess = above_uniform(np.stack([plan for _, plan in known]))
    return [
        (word, heat_over(explained.image, explained.part, mass, width))
        for (word, _), mass in zip(known, excess, strict=True)
    ]


def heat_over(image: Image.Image, part: Box, mass: np.ndarray, width: int) -> Image.Image:
    """The image, shrunk or enlarged to `width` pixels, coloured by the mass (rows, columns) of its patches, 0 to 1.

    The patches cover the `part` of the image, in its pixels.
    """
    small = _at_width(image, width)
    across, down = small.width / image.width, small.height / image.height
    left, top, right, bottom = part
    left, top = min(round(left * across), small.width - 1), min(round(top * down), small.height - 1)
    box = (left, top, max(round(right * across), left + 1), max(round(bottom * down), top + 1))
    shown = overlay(small, np.zeros((1, 1)))
    shown.paste(overlay(small.crop(box), mass), box[:2])
    return shown


def _at_width(image: Image.Image, width: int) -> Image.Image:
    """The image `width` pixels wide, or narrower if it would be more than twice as high."""
    scale = min(width / image.width, 2 * width / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert('RGB').resize(size, Image.Resampling.LANCZOS)


def _draw_scale(largest: float) -> Image.Image:
    """The colours of 0 to the largest share of relevance that a patch has, with both numbers."""
    scale = Image.new('RGB', (WIDTH, _SCALE_HEIGHT), PAPER)
    colours = heat_colour(np.linspace(0, 1, WIDTH)[None])  # (1, WIDTH, 3)
    scale.paste(Image.fromarray(np.repeat(colours, 14, axis=0)), (0, GAP // 2))
    draw, font = ImageDraw.Draw(scale), load_font(14)
    draw.text((0, 22), '0', INK, font)
    text = f'{100 * largest:.1f} % of all relevance'
    draw.text((WIDTH - font.getlength(text), 22), text, GREY, font)
    return scale


def _as_hex(strength: float) -> str:
    red, green, blue = heat_colour(np.array([strength]))[0]
    return f'#{red:02x}{green:02x}{blue:02x}'


def _as_base64(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=90)
    return base64.b64encode(buffer.getvalue()).decode()
