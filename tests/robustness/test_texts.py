"""Characters that draw nothing are removed, Hangul is composed, and what stays broken is reported with its place."""

from __future__ import annotations

import sys
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from kovilt.datasets import normalize_korean
from kovilt.datasets.korean import find_loose_jamo
from kovilt.verification.texts import answer_faults, text_faults

EVERY = [chr(code) for code in range(sys.maxunicode + 1)]
IGNORABLE = set(
    regex.findall(r'\p{Default_Ignorable_Code_Point}', ''.join(c for c in EVERY if not '\ud800' <= c <= '\udfff'))
)
FILLERS = '\u3164\uffa0'  # drawn as blanks


def test_every_character_that_unicode_draws_as_nothing_is_removed():
    kept = [
        f'U+{ord(c):04X}' for c in IGNORABLE if normalize_korean(f'소{c}파') != ('소 파' if c in FILLERS else '소파')
    ]
    assert len(IGNORABLE) > 4000 and not kept


@pytest.mark.parametrize('character', '\u034f\ufe0f\u115f\u1160\u2800\ufe00\u180b\U000e0041\U000e0100\0\x1b\x9b\ud83d')
def test_named_ones_are_removed_inside_syllables_and_found_by_verify(character):
    assert normalize_korean(f'소{character}파') == '소파' and normalize_korean(character) == ''
    assert normalize_korean(f'\u1109{character}\u1169') == '소'
    assert ('invisible', "invisible characters in '소파는'") in text_faults(f'소{character}파는')


def test_no_visible_character_is_removed():
    """Letters, marks, numbers, punctuation and symbols of all scripts, but for the blank of braille."""
    visible = [c for c in EVERY if unicodedata.category(c)[0] in 'LMNPS' and c not in IGNORABLE and c != '\u2800']
    assert [c for c in visible if not normalize_korean(c)] == []


@given(st.text(st.characters(codec=None, categories=None), max_size=20))
def test_any_text_is_normalized_once_and_for_all(text):
    once = normalize_korean(text)
    assert normalize_korean(once) == once == normalize_korean(unicodedata.normalize('NFC', text))
    assert once.encode().decode() == once and unicodedata.is_normalized('NFC', once)
    assert once == ' '.join(once.split())


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=20))
def test_decomposed_syllables_become_what_they_were(text):
    assert normalize_korean(unicodedata.normalize('NFD', text)) == text and not find_loose_jamo(text)


@pytest.mark.parametrize(
    'jamo, shown',
    [('\u110f', 'U+110F'), ('\u110b', 'U+110B'), ('\u1161', 'U+1161'), ('\u11ab', 'U+11AB'), ('\ua960', 'U+A960'),
                    ('\ud7b0', 'U+D7B0'), ('\u1112\u119e\u11ab', 'U+1112 U+119E U+11AB')]
)  # fmt: skip
def test_jamo_that_form_no_syllable_are_found_in_questions_and_answers(jamo, shown):
    expected = ('jamo', f'{shown} in {f"무슨 {jamo} 색"!r}')
    assert expected in text_faults(f'무슨 {jamo} 색') and expected in answer_faults(f'무슨 {jamo} 색')


@pytest.mark.parametrize('text', ['소파', unicodedata.normalize('NFD', '소파'), 'ㅋㅋ', 'ㅏ', '\uffbb', '豊', 'TV'])
def test_syllables_and_letters_of_the_keyboard_are_no_loose_jamo(text):
    assert not find_loose_jamo(normalize_korean(text))


@pytest.mark.parametrize(
    'entity', ['&amp;', '&quot;', '&nbsp;', '&lt;', '&#39;', '&#x27;', '&#XAC00;', '&hearts;', '<br>', '</p>']
)
def test_markup_is_found_in_questions_and_answers(entity):
    expected = ('markup', f'{entity!r} in {f"빨간색{entity}노란색"!r}')
    assert expected in text_faults(f'빨간색{entity}노란색') and expected in answer_faults(f'빨간색{entity}노란색')


@pytest.mark.parametrize('text', ['A&B', 'R&B; 음악', '3 < 5', '소파 & 의자;', 'a&#;'])
def test_signs_that_are_no_markup_are_not_reported(text):
    assert not [code for code, _ in answer_faults(text) if code == 'markup']
