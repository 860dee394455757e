"""Finds a font with Hangul, which neither Pillow nor matplotlib contains.

Text in images is drawn with it. Without such a font images show numbers instead, and the sentences are in a text file
beside the image and in the HTML report, because a browser has fonts of its own.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from PIL import ImageFont

from kovilt.errors import KoviltError

MISSING_FONT_HINT = (
    'no font with Hangul found: images show numbers instead of sentences (install one: apt install fonts-nanum, or '
    'name a font file in KOVILT_FONT)'
)
_REGULAR = ('nanumgothic.', 'notosanscjk-regular.', 'notosanskr-regular.', 'applesdgothicneo.', 'malgun.')  # preferred


def korean_font() -> Path | None:
    """The file of a font with Hangul: KOVILT_FONT, else a usual one of the system, else any other of it, else None.

    Raises:
        KoviltError: KOVILT_FONT is not a font with Hangul.
    """
    named = os.environ.get('KOVILT_FONT')
    if named:
        if not has_hangul(Path(named)):
            raise KoviltError(f'KOVILT_FONT={named} is not a font with Hangul; name another file or unset it')
        return Path(named)
    return _find_font()


def has_hangul(path: Path) -> bool:
    """Whether the file is a font that draws a Hangul syllable differently from a character that no font has."""
    try:
        font = ImageFont.truetype(str(path), 16)
    except OSError:
        return False
    return bytes(font.getmask('가')) != bytes(font.getmask('\U0010fffe'))


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The Korean font of `size` pixels if there is one, else Pillow's own, which has no Hangul."""
    path = korean_font()
    font = ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise KoviltError('this Pillow has no FreeType and cannot draw text; run: pip install --force-reinstall pillow')
    return font


@cache
def _find_font() -> Path | None:
    from matplotlib.font_manager import findSystemFonts

    files = sorted(findSystemFonts(), key=lambda file: (not Path(file).name.lower().startswith(_REGULAR), file))
    return next((Path(file) for file in files if has_hangul(Path(file))), None)
