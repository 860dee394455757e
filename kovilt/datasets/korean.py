"""Normalization of Korean text, applied to all questions, captions, answers and names of images."""

from __future__ import annotations

import re
import unicodedata

# Characters that draw nothing: controls that are not white space; every Default_Ignorable_Code_Point of Unicode (soft
# hyphen, zero-width and direction marks, variation selectors, tags, fillers of conjoining jamo, byte-order mark); the
# blank of braille; annotation anchors; and lone surrogates, which no UTF-8 file can hold.
_INVISIBLE = re.compile(
    '[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f'
    '\u202a-\u202e\u2060-\u206f\u2800\ufe00-\ufe0f\ufeff\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a'
    '\U000e0000-\U000e0fff\ud800-\udfff]'
)
_PLAIN = re.compile('[가-힣ㄱ-ㅎㅏ-ㅣ -~]*')  # composed and visible; nearly every text
HANGUL = re.compile(
    '[가-힣ㄱ-ㅣ\uffa1-\uffdc\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]'
)  # syllables and letters of any kind
_LOOSE_JAMO = re.compile('[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]+')
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


def find_loose_jamo(text: str) -> str:
    """The first conjoining jamo of a normalized text that compose no syllable, '' if there are none.

    They are old Hangul, or what is left of a syllable that was cut. They look like the letters of a keyboard (ㅋ, which
    vocabularies have) but are other characters (U+110F, which they lack).
    """
    found = _LOOSE_JAMO.search(text)
    return found[0] if found else ''


def show_codes(characters: str) -> str:
    """The code points of characters that a font may not draw, such as 'U+1112 U+119E'."""
    return ' '.join(f'U+{ord(character):04X}' for character in characters)
