"""Checks a question before it is answered, and says what a model cannot read of it."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Collection, Iterator, Sequence

from kovilt.datasets.korean import HANGUL, find_loose_jamo, normalize_korean, show_codes
from kovilt.datasets.tokenizer_check import TokenCounts
from kovilt.errors import KoviltError, nearest

MAX_CHARACTERS = 10_000  # far beyond the 40 tokens that a model reads, so more is a mistake of the caller
MAX_UNKNOWN_SHARE = 0.3  # of the tokens of a question
_MAX_ABSTENTION = 200  # characters
_SURROGATE = re.compile('[\ud800-\udfff]')


def clean_question(question: object, place: str, *, may_be_empty: bool = False) -> str:
    """The normalized text of a question; `place`, such as 'question 0', is named in errors.

    `may_be_empty`: of a model that reads choices, which are then read alone.

    Raises:
        KoviltError: no text, text that no file could hold, text without a word, or too long a text.
    """
    text = _clean_text(question, place, MAX_CHARACTERS, may_be_empty=may_be_empty)
    if text and not any(character.isalnum() or _is_drawing(character) for character in text):
        raise KoviltError(f'{place}: {text[:20]!r} is punctuation only; give a question in words')
    return text


def clean_abstention(abstention: object, place: str) -> str:
    """The normalized text that stands for the answer where a model abstains; `place` is named in errors.

    Raises:
        KoviltError: no text, text that no file could hold, an empty one, or more than 200 characters.
    """
    return _clean_text(abstention, place, _MAX_ABSTENTION)


def clean_choices(choices: object, place: str, known: Collection[str] = ()) -> list[str]:
    """The normalized texts of the answers among which a model is to choose; `place` is named in errors.

    Args:
        known: the answers of the model, if it can give no others.

    Raises:
        KoviltError: no list, fewer than two, one that `clean_question` refuses, one twice, or one that is not known.
    """
    if isinstance(choices, str | bytes) or not isinstance(choices, Sequence):
        raise KoviltError(f'{place}: {reprlib.repr(choices)} is a {type(choices).__name__}; give a list of texts')
    cleaned = [clean_question(choice, f'{place}, number {number}') for number, choice in enumerate(choices)]
    if len(cleaned) < 2:
        raise KoviltError(f'{place}: {len(cleaned)} texts; give at least two')
    if len(set(cleaned)) < len(cleaned):
        twice = next(choice for choice in cleaned if cleaned.count(choice) > 1)
        raise KoviltError(f'{place}: {twice!r} is there twice; remove one')
    if unknown := [choice for choice in cleaned if known and choice not in known]:
        said, hint = f'{place}: {unknown[0]!r} is none of the {len(known):,} answers', nearest(unknown[0], known)
        raise KoviltError(f'{said} of the model{hint}; a model of multiple choice takes any')
    return cleaned


def check_asked(choices: Sequence[str] | None, *, chooses: bool) -> None:
    """KoviltError if a model that `chooses` among given answers is asked without any."""
    if chooses and not choices:
        raise KoviltError(
            'a model of multiple choice: give choices, the answers among which it chooses (--choices "a|b", or options '
            'in the table)'
        )


def question_warnings(text: str, counts: TokenCounts, num_read: int, *, korean: bool) -> Iterator[str]:
    """What a model cannot read of a normalized text, of whose tokens it reads the first `num_read`.

    Args:
        korean: whether the model has learned Korean questions.
    """
    if num_read < counts.given:
        yield f'only its first {num_read} of {counts.given} tokens are read'
    if jamo := find_loose_jamo(text):
        yield f'{show_codes(jamo)} forms no syllable, as if a letter was lost; write whole syllables'
    if korean and not HANGUL.search(text):
        yield 'no Hangul in it; the model has learned Korean questions'
    if counts.unknown_share > MAX_UNKNOWN_SHARE:
        yield f'{counts.unknown_share:.0%} of its tokens are unknown to the model, so the answer is a guess'


def _clean_text(text: object, place: str, most: int, *, may_be_empty: bool = False) -> str:
    if not isinstance(text, str):
        raise KoviltError(f'{place}: {reprlib.repr(text)} is a {type(text).__name__}; give text')
    if '\0' in text:
        raise KoviltError(f'{place}: it holds the character NUL, as binary data does; give text')
    if half := _SURROGATE.search(text):
        raise KoviltError(f'{place}: it holds {show_codes(half[0])}, half a character; give it in valid UTF-8')
    cleaned = normalize_korean(text)
    if not cleaned and not may_be_empty:
        raise KoviltError(f'{place}: it is empty; give text')
    if len(cleaned) > most:
        raise KoviltError(f'{place}: {len(cleaned):,} characters ({cleaned[:20]}...); give at most {most:,}')
    return cleaned


def _is_drawing(character: str) -> bool:
    """Whether a character is a symbol such as an emoji, which may stand for a word; U+FFFD stands for a lost one."""
    return unicodedata.category(character) == 'So' and character != '\ufffd'
