"""Options and answers in every form in which data sets write them."""

import pytest

from kovilt.datasets.options import read_choice
from kovilt.errors import KoviltError

COLORS = ['빨간색', '파란색', '노란색', '흰색']
K_SEED = ['choice_a', 'choice_b', 'choice_c', 'choice_d']
LISTED = dict(question='무슨 색?', options=COLORS)
LETTERED = dict(question='무슨 색?', a='빨간색', b='파란색', c='노란색', d='흰색')


@pytest.mark.parametrize(
    'row',
    [
        LISTED | dict(answer=2),  # K-Viscuit
        LISTED | dict(answer=2.0),  # as pandas writes it
        LISTED | dict(answer='노란색'),
        LISTED | dict(answer='C'),
        LISTED | dict(answer='2'),
        dict(question='무슨 색?', choices=COLORS, answer='c'),
        dict(question='무슨 색?', options='빨간색|파란색| 노란색 |흰색', answer='노란색'),  # a cell of CSV
        LETTERED | dict(answer='c'),  # SSAFY
        LETTERED | dict(answer='C'),
        LETTERED | dict(answer='노란색'),
        dict(question='무슨 색?', A='빨간색', B='파란색', C='노란색', D='흰색', E='', answer='C'),  # K-MMBench, KRETA
        dict(question='무슨 색?', answer='C', **dict(zip(K_SEED, COLORS, strict=True))),
        dict(question='무슨 색? Options: A: 빨간색, B: 파란색, C: 노란색, D: 흰색', answer='C'),  # K-MMStar
        dict(question='무슨 색?\n보기: A. 빨간색 B. 파란색 C. 노란색 D. 흰색', answer='C'),
    ],
)
def test_every_form_gives_the_same_question(row):
    assert read_choice(row, 'here') == ('무슨 색?', COLORS, '노란색')


def test_a_letter_goes_first_in_columns_and_a_text_in_a_list():
    letters = dict(a='B', b='A', answer='A')
    assert read_choice(dict(question='?', **letters), 'here').answer == 'B'
    assert read_choice(dict(question='?', options=['B', 'A'], answer='A'), 'here').answer == 'A'
    assert read_choice(dict(question='?', options=['3', '0', '1'], answer='1'), 'here').answer == '1'
    assert read_choice(dict(question='?', options=['3', '0', '1'], answer=1), 'here').answer == '0'


def test_options_are_normalized_and_may_lack_an_answer():
    row = dict(question='?', options=['  빨간   색 ', 3], answer=None)
    assert read_choice(row, 'here') == ('?', ['빨간 색', '3'], '')
    assert read_choice(dict(question='?', a='가', c='나', answer='c'), 'here').answer == '나'


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        (dict(answer='예'), 'here: 0 options; a multiple-choice question has two or more'),
        (dict(options=['예'], answer='예'), 'here: 1 options'),
        (dict(options=['예', ' '], answer='예'), "here: option 1 of 'options' is empty"),
        (dict(options={'a': 1}, answer='예'), "here: 'options' is .*; give a list of texts"),
        (dict(options=['예', ['아니요']], answer='예'), "here: 'options' is a list"),
        (dict(options=['예', '아니요'], answer=2), "here: 'answer' is '2', none of the 2 options; .* letter, A, B"),
        (dict(a='예', b='아니요', answer=1), "here: 'answer' is '1', none of the 2 options"),
        (dict(a='예', b='아니요', answer='c'), "'answer' is 'c', none of the 2 options"),
    ],
)
def test_what_is_no_multiple_choice_is_refused(row, message):
    with pytest.raises(KoviltError, match=message) as caught:
        read_choice(dict(question='있어요?') | row, 'here')
    assert '\n' not in str(caught.value)
