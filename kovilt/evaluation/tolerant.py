"""The tolerant form of Korean answers, which is equal for different spellings of one answer.

The forms are for comparing, not for reading. docs/en/evaluation.md lists every rule with its cases, which are also the
tests of this file.
"""

from __future__ import annotations

import functools
import re

from kovilt.datasets.korean import normalize_korean

# Only as whole answers: 네 before a counter is four.
_YES_NO = {
    **dict.fromkeys(('예', '네', '응', 'yes'), '예'),
    **dict.fromkeys(('아니요', '아니오', '아뇨', '아니', 'no'), '아니요'),
}

# Counters of native numerals (두 개), and of Sino-Korean ones of two syllables or more (이십 개).
NATIVE_COUNTERS = tuple(
    '가지 개 곳 군데 권 그루 그릇 다발 달 대 마리 명 번 벌 병 봉지 사람 살 상자 송이 '
    '시 시간 쌍 자루 잔 장 접시 조각 줄 채 척 켤레 컵 통 포기'.split()
)
# Counters of Sino-Korean numerals alone, from ten on: 십오 분. 일 is missing: 이십일 is usually 21, not the 20th.
SINO_COUNTERS = tuple('년 도 등 미터 분 세 센티미터 원 위 점 초 킬로그램 호 회'.split())
# Before these a single Sino-Korean syllable is a numeral too (이 층). Elsewhere it mostly is not: 이 병 is this bottle,
# 이병 a private, 사장 a director, 구분 a division.
SHORT_SINO_COUNTERS = tuple('개월 월 인분 인용 층 퍼센트 학년'.split())
# Written without a blank these are words: generation, tropics, fever, headache, washing.
GLUED_WORDS = frozenset('세대 열대 열병 두통 세척'.split())


def _numerals(tens: str, units: str) -> dict[str, int]:
    """1 to 99 in words; `tens` and `units` are blank-separated words for ten, twenty, ... and one, two, ..."""
    before, after = ['', *tens.split()], ['', *units.split()]
    words = {ten + unit: 10 * i + j for i, ten in enumerate(before) for j, unit in enumerate(after)}
    del words['']
    return words


_NATIVE_TENS = '열 스물 서른 마흔 쉰 예순 일흔 여든 아흔'
_NATIVE = _numerals(_NATIVE_TENS, '한 두 세 네 다섯 여섯 일곱 여덟 아홉')
_NATIVE['스무'] = _NATIVE.pop('스물')
_NAMES = _numerals(_NATIVE_TENS, '하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉')  # numbers without a counter
del _NAMES['열']  # alone it often means heat or a row
_SINO = _numerals('십 이십 삼십 사십 오십 육십 칠십 팔십 구십', '일 이 삼 사 오 육 칠 팔 구')
_LONG_SINO = {word: number for word, number in _SINO.items() if len(word) > 1}


def _numeral_pattern(numerals: dict[str, int], counters: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, int]]:
    """A pattern of a numeral and its counter as whole words, without particles, with the values of the numerals."""
    either = '|'.join(numerals), '|'.join(counters)
    return re.compile(rf'(?<![^\s,])({either[0]}) ?({either[1]})(?![^\s,])'), numerals


_COUNTED = (
    _numeral_pattern(_NATIVE, NATIVE_COUNTERS),
    _numeral_pattern(_LONG_SINO, NATIVE_COUNTERS + SINO_COUNTERS),
    _numeral_pattern(_SINO, SHORT_SINO_COUNTERS),
)
_THOUSANDS = re.compile(r'(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])')
_LAST_MARKS = re.compile(r'[\s.?!~。…]+$')
_LOOSE_BLANK = re.compile(r'(?<=[가-힣]) | (?=[가-힣])')


@functools.lru_cache(maxsize=1 << 16)  # answers repeat; with more distinct ones it is only slower
def tolerant_form(answer: str) -> str:
    """The form of an answer in which spelling does not matter.

    In this order: final punctuation is removed; an answer that is just yes, no or a number (둘) takes one form;
    numerals in words before a counter become digits (두 개, 2개); commas are removed from thousands; blanks beside
    Hangul are removed. Particles and capitals stay (but Yes is yes). An answer of punctuation alone stays as it is.
    """
    text = normalize_korean(answer)
    text = _LAST_MARKS.sub('', text) or text
    if text.lower() in _YES_NO:
        return _YES_NO[text.lower()]
    if text in _NAMES:
        return str(_NAMES[text])
    for pattern, numerals in _COUNTED:
        text = pattern.sub(functools.partial(_write_digits, numerals), text)
    text = _THOUSANDS.sub(lambda number: number[0].replace(',', ''), text)
    return _LOOSE_BLANK.sub('', text)


def _write_digits(numerals: dict[str, int], found: re.Match[str]) -> str:
    return found[0] if found[0] in GLUED_WORDS else f'{numerals[found[1]]}{found[2]}'
