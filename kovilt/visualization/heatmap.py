"""Draws the transport plan of word-patch alignment over the image, one panel for each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kovilt.files import write_text
from kovilt.visualization.cards import INK, PAPER, save_sheet
from kovilt.visualization.fonts import korean_font, load_font

HEAT = np.array([(255, 214, 0), (255, 120, 0), (214, 0, 60)], float)  # RGB of little, medium and most mass
WIDTH, CAPTION_HEIGHT = 260, 32  # pixels


def draw_alignment(
    image: Image.Image,
    words: Sequence[str],
    plan: np.ndarray | Sequence[np.ndarray],
    out: str | Path,
    *,
    boxes: Sequence[Sequence[Sequence[float]]] | None = None,
) -> Path:
    """Draw a panel for each word into the PNG file `out`, coloured where patches get more than a uniform share.

    All words share one colour scale. It ends at twice the uniform share, or at the largest mass if that is more; a word
    whose mass is uniform stays uncoloured. Without a Hangul font a panel shows the number of its word, and `out` with
    the suffix .txt lists the words.

    Args:
        image, words: the image, and W words of its text.
        plan: (W, rows, columns), non-negative mass from each word to each patch.
        out: PNG file.
        boxes: for each word the boxes of the objects that it names, each (left, top, right, bottom) in pixels.

    Raises:
        ValueError: the plan does not fit the words.
    """
    plan = np.asarray(plan, float)
    if plan.ndim != 3 or len(plan) != len(words):
        raise ValueError(f'plan {plan.shape} is not (words, rows, columns) of {len(words)} words')
    excess = above_uniform(plan)
    write_text(Path(out).with_suffix('.txt'), ''.join(f'{number}. {word}\n' for number, word in enumerate(words, 1)))

    scale = WIDTH / image.width
    small = image.convert('RGB').resize((WIDTH, round(image.height * scale)), Image.Resampling.LANCZOS)
    panels = []
    for place, word in enumerate(words):
        shown = overlay(small, excess[place])
        for box in boxes[place] if boxes is not None else ():
            ImageDraw.Draw(shown).rectangle([side * scale for side in box], outline='#0b57d0', width=3)
        panels.append(captioned_panel(shown, word if korean_font() else f'word {place + 1}'))
    return save_sheet(panels, out, columns=4)


def above_uniform(plan: np.ndarray) -> np.ndarray:
    """How far the mass (W, rows, columns) of each word exceeds a uniform share, 0 to 1 on one scale for all words.

    The scale ends at twice the uniform share, or at the largest mass if that is more.
    """
    uniform = plan.mean((1, 2), keepdims=True)
    excess = np.clip(plan / np.maximum(uniform, 1e-12) - 1, 0, None)  # 1 = twice the uniform share
    return np.asarray(excess / max(1.0, excess.max(initial=0.0)))


def captioned_panel(image: Image.Image, caption: str) -> Image.Image:
    """An image of WIDTH pixels below its caption."""
    panel = Image.new('RGB', (WIDTH, CAPTION_HEIGHT + image.height), PAPER)
    ImageDraw.Draw(panel).text((0, 0), caption, INK, load_font(20))
    panel.paste(image, (0, CAPTION_HEIGHT))
    return panel


def overlay(image: Image.Image, mass: np.ndarray) -> Image.Image:
    """The image in grey, coloured by the mass (rows, columns) of its patches, 0 to 1: more mass, stronger colour."""
    heat = Image.fromarray(mass.astype(np.float32), 'F').resize(image.size, Image.Resampling.BICUBIC)
    ground = np.asarray(image.convert('L').convert('RGB'), float) * 0.6 + np.asarray(image, float) * 0.4
    return Image.fromarray(heat_colour(np.clip(np.asarray(heat), 0, 1), ground))


def heat_colour(strength: np.ndarray, ground: np.ndarray | float = 255.0) -> np.ndarray:
    """The colours uint8 (..., 3) of strengths (...), 0 to 1, over the pixels of `ground` (..., 3) or over white."""
    colour = np.stack([np.interp(strength, (0, 0.5, 1), HEAT[:, channel]) for channel in range(3)], -1)
    alpha = 0.8 * strength[..., None] ** 0.8
    return np.asarray(ground * (1 - alpha) + colour * alpha).astype(np.uint8)
