"""Finds a font with Hangul, which neither Pillow nor matplotlib brings.

Images are drawn with it when there is one; without one they carry numbers, and the sentences stand in a text file
beside them and in the HTML report (a browser has fonts of its own).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from PIL import ImageFont

from kovilt.errors import KoviltError

HOW_TO_GET_ONE = (
    'no font with Hangul found: images carry numbers instead of sentences (get one with: apt install fonts-nanum, '
    'or name a file in KOVILT_FONT)'
)
PLACES = (
    '/usr/share/fonts/truetype/nanum/NanumGothic.ttf',
    '/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc',
    '/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc',
    '/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc',
    '/System/Library/Fonts/AppleSDGothicNeo.ttc',
    '/Library/Fonts/NanumGothic.ttf',
    'C:/Windows/Fonts/malgun.ttf',
)


def korean_font() -> Path | None:
    """The file of a font with Hangul: KOVILT_FONT, a usual place, or what fontconfig knows; None when there is none.

    Raises KoviltError when KOVILT_FONT names a file that is no font or has no Hangul.
    """
    named = os.environ.get('KOVILT_FONT')
    if named:
        if not has_hangul(Path(named)):
            raise KoviltError(f'KOVILT_FONT={named} is not a font with Hangul; name another file or unset it')
        return Path(named)
    return _search()


def has_hangul(path: Path) -> bool:
    """Whether the font draws a syllable differently from a character that no font has."""
    try:
        font = ImageFont.truetype(str(path), 16)
    except OSError:
        return False
    return bytes(font.getmask('가')) != bytes(font.getmask('\U0010fffe'))


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels: the Korean one where there is one, else Pillow's own (no Hangul)."""
    path = korean_font()
    return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)


@cache
def _search() -> Path | None:
    usual = (Path(place) for place in PLACES)
    return next((path for path in (*usual, *_fontconfig()) if path.is_file() and has_hangul(path)), None)


def _fontconfig() -> list[Path]:
    if shutil.which('fc-list') is None:
        return []
    listed = subprocess.run(['fc-list', ':lang=ko', 'file'], capture_output=True, text=True, check=False).stdout
    return sorted(Path(line.split(':')[0].strip()) for line in listed.splitlines())
