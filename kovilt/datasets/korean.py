"""The one normalisation of Korean text: questions, captions, answers and the names of images all pass through it."""

from __future__ import annotations

import re
import unicodedata

# Characters nobody sees: controls that are not white space, soft hyphen, zero-width and direction marks, byte-order
# mark, annotation anchors, and lone surrogates, which no UTF-8 file can hold.
_INVISIBLE = re.compile(
    '[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb'
    '\ud800-\udfff]'
)
_PLAIN = re.compile('[가-힣ㄱ-ㅎㅏ-ㅣ -~]*')  # composed and visible as it is; nearly every text
_FILLERS = ('\u3164', '\uffa0')  # of Hangul: drawn as a blank, used as one


def normalize_korean(text: str) -> str:
    """Compose Hangul (NFC), drop invisible characters, fold every run of white space to one blank and strip the ends.

    Nothing a reader can see is changed: decomposed and composed Hangul become equal (a WordPiece vocabulary knows only
    the composed), letters keep their case and punctuation stays. Applying it twice changes nothing more.
    """
    if not _PLAIN.fullmatch(text):
        text = _INVISIBLE.sub('', text)
        for filler in _FILLERS:
            text = text.replace(filler, ' ')
        text = unicodedata.normalize('NFC', text)
    return ' '.join(text.split())
