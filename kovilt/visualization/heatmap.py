"""Draws the transport plan of word-patch alignment over the image, one panel for each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kovilt.visualization.contact_sheet import INK, PAPER
from kovilt.visualization.fonts import korean_font, load_font

HEAT = np.array([(255, 214, 0), (255, 120, 0), (214, 0, 60)], float)  # RGB of little, medium and most mass


def draw_alignment(
    image: Image.Image,
    words: Sequence[str],
    plan: np.ndarray,
    out: str | Path,
    *,
    boxes: Sequence[Sequence[Sequence[float]]] | None = None,
    columns: int = 4,
    width: int = 260,
) -> Path:
    """Draw a panel for each word into the PNG file `out`, coloured where patches get more than a uniform share.

    All words share one colour scale. It ends at twice the uniform share, or at the largest mass if that is more; a word
    whose mass is uniform stays uncoloured. Without a Hangul font a panel shows the number of its word, and `out` with
    the suffix .txt lists the words.

    Args:
        image: the image.
        words: W words.
        plan: (W, rows, columns), non-negative mass from each word to each patch.
        out: PNG file.
        boxes: for each word the boxes of the objects that it names, each (left, top, right, bottom) in pixels.
        columns: panels in a row.
        width: of a panel, in pixels.

    Raises:
        ValueError: the plan does not fit the words.
    """
    plan = np.asarray(plan, float)
    if plan.ndim != 3 or len(plan) != len(words):
        raise ValueError(f'plan {plan.shape} is not (words, rows, columns) of {len(words)} words')
    uniform = plan.mean((1, 2), keepdims=True)
    excess = np.clip(plan / np.maximum(uniform, 1e-12) - 1, 0, None)  # (W, rows, columns): 1 = twice the uniform share
    excess /= max(1.0, excess.max(initial=0.0))
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = '\n'.join(f'{number}. {word}' for number, word in enumerate(words, 1))
    out.with_suffix('.txt').write_text(listed + '\n', encoding='utf-8')

    scale = width / image.width
    height, gap, caption = round(image.height * scale), 12, 32
    small = image.convert('RGB').resize((width, height), Image.Resampling.LANCZOS)
    columns = min(columns, len(words))
    rows = -(-len(words) // columns)
    sheet = Image.new('RGB', (columns * (width + gap) + gap, rows * (height + caption + gap) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, word in enumerate(words):
        row, column = divmod(place, columns)
        left, top = gap + column * (width + gap), gap + row * (height + caption + gap)
        draw.text((left, top), word if korean_font() else f'word {place + 1}', INK, load_font(20))
        top += caption
        sheet.paste(overlay(small, excess[place]), (left, top))
        for box in boxes[place] if boxes is not None else ():
            x0, y0, x1, y1 = (side * scale for side in box)
            draw.rectangle((left + x0, top + y0, left + x1, top + y1), outline='#0b57d0', width=3)
    sheet.save(out, optimize=True)
    return out


def overlay(image: Image.Image, mass: np.ndarray) -> Image.Image:
    """The image in grey, coloured by the mass (rows, columns) of its patches, 0 to 1: more mass, stronger colour."""
    heat = Image.fromarray(mass.astype(np.float32), 'F').resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(heat), 0, 1)  # (H, W)
    colour = np.stack([np.interp(strength, (0, 0.5, 1), HEAT[:, channel]) for channel in range(3)], -1)
    ground = np.asarray(image.convert('L').convert('RGB'), float) * 0.6 + np.asarray(image, float) * 0.4
    alpha = 0.8 * strength[..., None] ** 0.8
    return Image.fromarray((ground * (1 - alpha) + colour * alpha).astype(np.uint8))
