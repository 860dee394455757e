"""What can be wrong with one question, caption or answer by itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kovilt.datasets.korean import normalize_korean

Fault = tuple[str, str]  # the last part of its code, what it is

LONGEST_TEXT = 200  # characters, where no tokenizer counts pieces
LONGEST_ANSWER = 30  # characters; the mean of AI-Hub 104's is 4.6
_HANGUL = re.compile('[가-힣ㄱ-ㅎㅏ-ㅣ\u1100-\u11ff]')
_MARKUP = re.compile(r'<\s*/?\s*(?:br|p|div|span|b|i|img|a|td|tr)\b[^>]*>|&(?:[a-z]{2,6}|#\d+);', re.IGNORECASE)
_HANGUL_PAIR = re.compile('[가-힣]{2}')
_PLACEHOLDERS = {'null', 'none', 'nan', 'n/a', 'na', '#n/a', 'undefined', '-', '?', '없음(null)'}


def text_faults(raw: str) -> Iterator[Fault]:
    """The faults of a question or caption as its file has it, before `normalize_korean`."""
    text = normalize_korean(raw)
    if not text:
        yield 'empty', 'there is no text'
        return
    yield from _encoding_faults(raw)
    scrambled = _unscrambled(raw) is not None
    if not unicodedata.is_normalized('NFC', raw):
        yield 'decomposed', f'decomposed Hangul in {_shown(text)}'
    if _has_invisible(raw) and not scrambled:
        yield 'invisible', f'invisible characters in {_shown(text)}'
    if found := _MARKUP.search(text):
        yield 'markup', f'{found[0]!r} in {_shown(text)}'
    if not _HANGUL.search(text) and not scrambled:
        yield 'no_hangul', f'no Hangul in {_shown(text)}'
    if len(text) < 2:
        yield 'short', f'only {_shown(text)}'


def answer_faults(raw: str) -> Iterator[Fault]:
    """The faults of an answer as its file has it."""
    text = normalize_korean(raw)
    if text.lower() in _PLACEHOLDERS:
        yield 'placeholder', f'the answer is {_shown(text)}'
    yield from _encoding_faults(raw)
    if len(text) > LONGEST_ANSWER:
        yield 'long', f'an answer of {len(text)} characters: {_shown(text)}'


def spelling(answer: str) -> str:
    """What a spelling shares with those that differ in blanks, case or final punctuation."""
    return re.sub(r'\s', '', answer).casefold().rstrip('.?!~,') or answer


def _encoding_faults(raw: str) -> Iterator[Fault]:
    text = normalize_korean(raw)
    if '\ufffd' in text:
        yield 'replaced', f'U+FFFD in {_shown(text)}'
    meant = _unscrambled(raw)
    if meant is not None:
        yield 'mojibake', f'{_shown(text)}; meant is {_shown(meant)}'


def _unscrambled(text: str) -> str | None:
    """The Hangul of a text whose bytes were read as Latin-1 or Windows-1252, None when it is not such a text."""
    if text.isascii() or _HANGUL.search(text):
        return None
    for wrong in ('latin-1', 'cp1252'):
        for right in ('utf-8', 'cp949'):
            try:
                meant = text.encode(wrong).decode(right)
            except UnicodeError:
                continue
            if _HANGUL_PAIR.search(meant):
                return meant
    return None


def _has_invisible(raw: str) -> bool:
    """Whether normalising drops a character, not only folds blanks."""
    return len(normalize_korean(raw).replace(' ', '')) < len(''.join(unicodedata.normalize('NFC', raw).split()))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f'{text[:39]}…')
