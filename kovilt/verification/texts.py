"""Finds the faults of single questions, captions and answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kovilt.datasets.korean import HANGUL, find_loose_jamo, normalize_korean, show_codes
from kovilt.evaluation.tolerant import tolerant_form

TextFault = tuple[str, str]  # the last part of its code (`empty`), its description

LONGEST_TEXT = 200  # characters; used where no tokenizer counts tokens
LONGEST_ANSWER = 30  # characters; the answers of AI-Hub 104 have 4.6 on average
_MARKUP = re.compile(
    r'<\s*/?\s*(?:br|p|div|span|b|i|img|a|td|tr)\b[^>]*>|&(?:[a-z]\w{1,30}|#x?[\da-f]+);', re.IGNORECASE
)
_HANGUL_PAIR = re.compile('[가-힣]{2}')
_PLACEHOLDERS = {'null', 'none', 'nan', 'n/a', 'na', '#n/a', 'undefined', '-', '?', '없음(null)'}


def text_faults(raw: str) -> Iterator[TextFault]:
    """The faults of a question or caption as it stands in its file, before `normalize_korean`."""
    text = normalize_korean(raw)
    if not text:
        yield 'empty', 'there is no text'
        return
    yield from _encoding_faults(raw)
    is_mojibake = _decode_again(raw) is not None
    if not unicodedata.is_normalized('NFC', raw):
        yield 'decomposed', f'decomposed Hangul in {_shorten(text)}'
    if _has_invisible(raw) and not is_mojibake:
        yield 'invisible', f'invisible characters in {_shorten(text)}'
    if not HANGUL.search(text) and not is_mojibake:
        yield 'no_hangul', f'no Hangul in {_shorten(text)}'
    if len(text) < 2:
        yield 'short', f'only {_shorten(text)}'


def answer_faults(raw: str) -> Iterator[TextFault]:
    """The faults of an answer as it stands in its file."""
    text = normalize_korean(raw)
    if text.lower() in _PLACEHOLDERS:
        yield 'placeholder', f'the answer is {_shorten(text)}'
    yield from _encoding_faults(raw)
    if len(text) > LONGEST_ANSWER:
        yield 'long', f'an answer of {len(text)} characters: {_shorten(text)}'


def spelling_key(answer: str) -> str:
    """A key that is equal for answers of one `tolerant_form`, and for those that differ in capitals or blanks too."""
    form = tolerant_form(answer)
    return re.sub(r'\s', '', form).casefold().rstrip('.?!~,') or form


def _encoding_faults(raw: str) -> Iterator[TextFault]:
    """What a conversion left behind: of files, of syllables or of web pages."""
    text = normalize_korean(raw)
    if '\ufffd' in text:
        yield 'replaced', f'U+FFFD in {_shorten(text)}'
    if jamo := find_loose_jamo(text):
        yield 'jamo', f'{show_codes(jamo)} in {_shorten(text)}'
    if found := _MARKUP.search(text):
        yield 'markup', f'{found[0]!r} in {_shorten(text)}'
    intended = _decode_again(raw)
    if intended is not None:
        yield 'mojibake', f'{_shorten(text)}; intended is {_shorten(intended)}'


def _decode_again(text: str) -> str | None:
    """The Hangul of a text whose bytes were decoded as Latin-1 or Windows-1252; None for any other text."""
    if text.isascii() or HANGUL.search(text):
        return None
    for wrong in ('latin-1', 'cp1252'):
        for right in ('utf-8', 'cp949'):
            try:
                decoded = text.encode(wrong).decode(right)
            except UnicodeError:
                continue
            if _HANGUL_PAIR.search(decoded):
                return decoded
    return None


def _has_invisible(raw: str) -> bool:
    """Whether `normalize_korean` removes a character, beside joining blanks."""
    return len(normalize_korean(raw).replace(' ', '')) < len(''.join(unicodedata.normalize('NFC', raw).split()))


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else f'{text[:39]}…')
