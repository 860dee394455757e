"""Where each word of a sentence looks: the transport plan of word-patch alignment over the image, a panel a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kovilt.visualization.contact_sheet import INK, PAPER
from kovilt.visualization.fonts import korean_font, load_font

HEAT = np.array([(255, 214, 0), (255, 120, 0), (214, 0, 60)], float)  # little, middling, most mass


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
    """Draw a panel for each word, coloured where it sends more mass than an even share, into the PNG `out`.

    plan (W, rows, cols): non-negative mass from each of the W words to each patch. All words share one scale, which
    ends at twice the even share or at the largest mass above it: a word that looks everywhere stays uncoloured. boxes:
    for each word the boxes of what it names, each (left, top, right, bottom) in pixels of `image`.
    With no Hangul font on the machine a panel carries its word's number, and `<out>.txt` lists the words.
    Raises ValueError when the plan does not fit the words.
    """
    plan = np.asarray(plan, float)
    if plan.ndim != 3 or len(plan) != len(words):
        raise ValueError(f'plan {plan.shape} is not (words, rows, columns) of {len(words)} words')
    even = plan.mean((1, 2), keepdims=True)
    excess = np.clip(plan / np.maximum(even, 1e-12) - 1, 0, None)  # (W, rows, cols): 1 = twice the even share
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
    """The image in grey with the mass (rows, cols) of its patches, 0 to 1, laid over: much mass, strong colour."""
    heat = Image.fromarray(mass.astype(np.float32), 'F').resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(heat), 0, 1)  # (H, W)
    colour = np.stack([np.interp(strength, (0, 0.5, 1), HEAT[:, channel]) for channel in range(3)], -1)
    ground = np.asarray(image.convert('L').convert('RGB'), float) * 0.6 + np.asarray(image, float) * 0.4
    alpha = 0.8 * strength[..., None] ** 0.8
    return Image.fromarray((ground * (1 - alpha) + colour * alpha).astype(np.uint8))
