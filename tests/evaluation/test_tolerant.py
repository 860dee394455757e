"""The tolerant form does what docs/en/evaluation.md says, row by row."""

import re
import unicodedata
from pathlib import Path

import pytest

from kovilt.evaluation import tolerant
from kovilt.evaluation.tolerant import tolerant_form

PAGE = (Path(__file__).resolve().parents[2] / 'docs/en/evaluation.md').read_text(encoding='utf-8')
CASES = re.findall(r'^\|[^|]*\| `([^`]+)` \| `([^`]+)` \| (yes|no) \|$', PAGE, re.M)


@pytest.mark.parametrize(('one', 'another', 'same'), CASES)
def test_the_documented_cases(one, another, same):
    assert (tolerant_form(one) == tolerant_form(another)) == (same == 'yes')


def test_no_row_of_the_table_is_overlooked():
    table = PAGE.split('| rule | one answer | another | same? |\n|---|---|---|---|\n')[1].split('\n\n')[0]
    assert len(CASES) == len(table.splitlines()) > 50


def test_the_page_lists_the_tables_of_the_code():
    said = re.search(r'^Native counters: (.*?)\. Sino-Korean counters: (.*?),', PAGE, re.M | re.S)
    assert tuple(said[1].split()) == tolerant.NATIVE_COUNTERS
    assert tuple(said[2].split()) == tolerant.SINO_COUNTERS
    for listed in (tolerant.SHORT_SINO_COUNTERS, tolerant.GLUED_WORDS, tolerant._YES_NO):
        assert all(f'`{word}`' in PAGE for word in listed)


def test_a_form_is_its_own_form():
    for answer in {answer for one, another, _ in CASES for answer in (one, another)}:
        assert tolerant_form(tolerant_form(answer)) == tolerant_form(answer)


def test_each_number_to_99_has_one_native_and_one_sino_korean_word():
    numbers = list(range(1, 100))
    for numerals in (tolerant._NATIVE, tolerant._SINO):
        assert sorted(numerals.values()) == numbers
        assert len(numerals) == 99
    assert {tolerant_form(f'{word} 개') for word in tolerant._NATIVE} == {f'{number}개' for number in numbers}
    assert tolerant_form('이십일층') == '21층' and tolerant_form('스물한 명') == '21명'


def test_decomposed_hangul_and_answers_of_marks():
    assert tolerant_form(unicodedata.normalize('NFD', '두 개')) == '2개'
    assert (tolerant_form('...'), tolerant_form('')) == ('...', '')
