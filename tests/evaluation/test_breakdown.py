import json

import pytest

from kovilt.errors import KoviltError
from kovilt.evaluation.breakdown import (
    by_answer_frequency,
    by_answer_type,
    by_question_length,
    find_confusions,
    pick_examples,
    read_all_predictions,
)


def line(number: int, answer: str = '예', score: float = 0.5, **more) -> dict:
    return {
        'question_id': None,
        'image': f'{number // 2}.jpg',
        'question': '소파가 있어요?',
        'answer': answer,
        'score': score,
        'ground_truth': '예',
        'answer_type': '존재',
        'correct': answer == '예',
        'tolerant_correct': answer == '예',
        **more,
    }


LINES = [
    line(0, score=0.9),
    line(1, score=0.8),
    line(2, '아니요', 0.7),
    line(3, '아니요', 0.95),
    line(4, '책', 0.2, answer_type='종류', question='이 방의 탁자 위에 놓인 것은 무엇이에요?'),
    line(5, '예', 0.99, correct=False),  # its image is broken
]


def test_groups_have_counts_intervals_and_an_order():
    existing, kind = by_answer_type(LINES)
    assert (existing.name, existing.questions, existing.accuracy) == ('존재', 5, 40.0) and kind.questions == 1
    assert existing.low <= existing.accuracy <= existing.high and kind.low == kind.high == 0
    assert [one.name for one in by_question_length(LINES)] == ['1-3', '7-9']
    found = by_answer_frequency([*LINES, line(6, ground_truth='공')], {'예': 12})
    assert [(one.name, one.questions) for one in found] == [('0', 1), ('10-99', 6)]


def test_confusions_are_counted_with_their_surest_example():
    first, second = find_confusions(LINES)
    assert (first.ground_truth, first.answer, first.times, first.example['score']) == ('예', '아니요', 2, 0.95)
    assert (second.answer, second.times) == ('책', 1)


def test_examples_are_the_surest_and_of_different_images():
    found = pick_examples(LINES, 2)
    assert [one['score'] for one in found['best']] == [0.9, 0.8]  # of one image, as no other is right
    assert [one['score'] for one in found['worst']] == [0.99, 0.95]
    assert len({one['image'] for one in found['random']}) == 2
    assert len(pick_examples(LINES, 20)['random']) == len(LINES)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'score': 'high'}, "'score' is 'high'"),
        ({'score': True}, "'score' is 'True'"),
        ({'correct': 2}, "'correct' is '2'"),
        ({'image': ['a']}, 'image'),
    ],
)
def test_a_damaged_line_is_named(tmp_path, change, message):
    file = tmp_path / 'predictions.jsonl'
    file.write_text(json.dumps(line(0)) + '\n' + json.dumps(line(1) | change) + '\n')
    with pytest.raises(KoviltError, match=f'line 2.*{message}'):
        read_all_predictions(file)
