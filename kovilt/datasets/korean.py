"""Normalization of Korean text, applied to all questions, captions, answers and names of images."""

from __future__ import annotations

import re
import unicodedata

# Invisible characters: controls that are not white space, soft hyphen, zero-width and direction marks, byte-order mark,
# annotation anchors, and lone surrogates, which no UTF-8 file can hold.
_INVISIBLE = re.compile(
    '[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb'
    '\ud800-\udfff]'
)
_PLAIN = re.compile('[가-힣ㄱ-ㅎㅏ-ㅣ -~]*')  # composed and visible; nearly every text
_FILLERS = ('\u3164', '\uffa0')  # Hangul fillers are drawn as blanks and used as blanks


def normalize_korean(text: str) -> str:
    """Compose Hangul (NFC), remove invisible characters, replace all white space by single blanks and strip the ends.

    Nothing visible changes: decomposed and composed Hangul become equal (a WordPiece vocabulary has only composed
    syllables); case and punctuation stay. Applying it twice is the same as once.
    """
    if not _PLAIN.fullmatch(text):
        text = _INVISIBLE.sub('', text)
        for filler in _FILLERS:
            text = text.replace(filler, ' ')
        text = unicodedata.normalize('NFC', text)
    return ' '.join(text.split())
