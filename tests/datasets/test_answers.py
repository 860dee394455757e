import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from kovilt.datasets import AnswerVocabulary, soft_scores
from kovilt.datasets.answers import parse_answers, read_answers
from kovilt.errors import KoviltError

COUNTS = {'예': 9, '아니요': 9, '빨간색': 6, '파란색': 5, 'TV': 7}


def test_frequent_answers_make_the_vocabulary_the_most_frequent_first():
    vocabulary = AnswerVocabulary.build(COUNTS)
    assert vocabulary.answers == ['아니요', '예', 'TV', '빨간색']
    assert vocabulary.counts == [9, 9, 7, 6]
    assert [vocabulary.class_of[answer] for answer in vocabulary.answers] == [0, 1, 2, 3]
    assert vocabulary.coverage(COUNTS) == 31 / 36
    assert vocabulary.coverage({'예': 1, '보라색': 3}) == 0.25


def test_the_order_of_reading_does_not_matter():
    assert AnswerVocabulary.build(dict(reversed(COUNTS.items()))).answers == AnswerVocabulary.build(COUNTS).answers


def test_an_empty_vocabulary_names_the_threshold():
    with pytest.raises(KoviltError, match='none of 5 answers occurs min_count=10 times .* occurs 9 times'):
        AnswerVocabulary.build(COUNTS, min_count=10)
    with pytest.raises(KoviltError, match='min_count=6'):
        AnswerVocabulary.build({})


def test_saving_and_loading_changes_nothing(tmp_path):
    path = tmp_path / 'answers.json'
    AnswerVocabulary.build(COUNTS).save(path)
    loaded = AnswerVocabulary.load(path)
    assert (loaded.answers, loaded.counts, loaded.min_count) == (['아니요', '예', 'TV', '빨간색'], [9, 9, 7, 6], 6)
    assert '아니요' in path.read_text('utf-8')
    assert [file.name for file in tmp_path.iterdir()] == ['answers.json']


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"answers": ["예"], ', 'answers.json, line 1, column 20: expecting'),
        ('[]', 'a JSON list, not an object'),
        ('{"answers": ["예"], "counts": [1, 2], "min_count": 6}', 'not an answer vocabulary'),
        ('{"answers": ["예", " 예"], "counts": [1, 2], "min_count": 6}', r'2 answers \(1 distinct\)'),
        ('{"answers": [], "counts": [], "min_count": 6}', 'is empty'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / 'answers.json'
    path.write_text(content, 'utf-8')
    with pytest.raises(KoviltError, match=message) as error:
        AnswerVocabulary.load(path)
    assert str(error.value).startswith(str(path))


def test_missing_or_unwritable_places_are_named(tmp_path):
    with pytest.raises(KoviltError, match='no such answer vocabulary'):
        AnswerVocabulary.load(tmp_path / 'answers.json')
    (tmp_path / 'a file').touch()
    with pytest.raises(KoviltError, match='cannot be written'):
        AnswerVocabulary.build(COUNTS).save(tmp_path / 'a file' / 'answers.json')


def test_the_file_names_the_normalizer(tmp_path):
    AnswerVocabulary.build(COUNTS).save(tmp_path / 'a.json')
    assert json.loads((tmp_path / 'a.json').read_text('utf-8'))['normalizer'] == 'normalize_korean'


def official_score(answer: str, people: list[str]) -> float:
    """The definition: min(matches / 3, 1) among the others, averaged over the person who is left out."""
    others = [people[:place] + people[place + 1 :] for place in range(len(people))]
    return sum(min(rest.count(answer) / 3, 1) for rest in others) / len(others)


def test_ten_people_score_by_the_official_rule():
    rng = random.Random(0)
    for _ in range(300):
        people = rng.choices('가나다라마', weights=[8, 3, 2, 1, 1], k=10)
        distinct = sorted(set(people))
        scores = soft_scores([people.count(answer) for answer in distinct])
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, [official_score(answer, people) for answer in distinct], rtol=1e-6)


def test_ten_people_score_as_in_vilt():
    np.testing.assert_allclose(soft_scores([1, 2, 3, 4]), [0.3, 0.6, 0.9, 1], rtol=1e-6)


@pytest.mark.parametrize('people', range(1, 12))
def test_a_unanimous_answer_has_score_1(people):
    assert soft_scores([people]).tolist() == [1]


def test_few_people_score_their_share():
    np.testing.assert_allclose(soft_scores([1, 1]), [1 / 2, 1 / 2])
    np.testing.assert_allclose(soft_scores([2, 1]), [2 / 3, 1 / 3])
    np.testing.assert_allclose(soft_scores([3, 1]), [3 / 4, 1 / 4])


def test_answers_of_people_are_texts_or_objects():
    source = SimpleNamespace(place='labels.json, line 4')
    assert parse_answers(None, source) == []
    people = ['예', 2, 2.0, {'answer': '네', 'answer_confidence': 'yes'}, None]
    assert parse_answers(people, source) == ['예', '2', '2', '네', '']
    with pytest.raises(KoviltError, match="labels.json, line 4: 'answers' is not a list, but '예'"):
        parse_answers('예', source)
    for bad in ({'anser': '예'}, ['예'], True, {'answer': ['예']}):
        with pytest.raises(
            KoviltError, match="line 4.*: 'answers' is (a list|an object|a truth value), .*; write a text"
        ):
            parse_answers(['예', bad], source)


WEIGHTED = {'answers': ['빨간색', '분홍색'], 'answer_weights': [0.8, 0.2]}
SOURCE = SimpleNamespace(place='train.jsonl, line 4')


@pytest.mark.parametrize(
    'row',
    [
        {'answers': {'빨간색': 0.8, '파란색': 0, '분홍색': 0.2}},  # 0 is none
        {'answers': {'빨간색': 0.8, '파란색': None, '분홍색': 0.2}},  # a struct of Arrow
        {'answers': [('빨간색', 0.8), ('분홍색', 0.2)]},  # a map of Arrow
        {'answers': [{'answer': '빨간색', 'weight': 0.8}, {'answer': '분홍색', 'weight': 0.2}]},
        {'answers': ['빨간색', '분홍색'], 'answer_weights': [0.8, 0.2]},
        {'answers': ['빨간색', '분홍색'], 'answer_weights': '0.8 | 0.2'},  # cells of a table
        {'answers': ' {"빨간색": 0.8, "분홍색": 0.2}'},
    ],
    ids=str,
)
def test_weights_are_read_in_all_forms(row):
    assert read_answers(row, SOURCE) == WEIGHTED


def test_answers_without_weights_are_read_as_before():
    for row in ({'answers': ['예', '네']}, {'answers': ['예', '네'], 'answer_weights': None}):
        assert read_answers(row, SOURCE) == {'answers': ['예', '네']}
    for row in ({'answers': ['예', '네'], 'answer_weights': ''}, {'answers': [{'answer': '예'}, '네']}):
        assert read_answers(row, SOURCE) == {'answers': ['예', '네']}
    assert read_answers({}, SOURCE) == {'answers': []}
    assert read_answers({'answers': {}}, SOURCE)['answers'] == []


@pytest.mark.parametrize('weight', [1.5, -0.1, float('nan'), float('inf'), True, '0.5', [0.5], {}], ids=str)
@pytest.mark.parametrize('form', ['object', 'beside', 'list'])
def test_one_rule_holds_for_the_weights_of_all_forms(weight, form):
    row = {
        'object': {'answers': {'예': 0.5, '네': weight}},
        'beside': {'answers': ['예', '네'], 'answer_weights': [0.5, weight]},
        'list': {'answers': [{'answer': '예', 'weight': 0.5}, {'answer': '네', 'weight': weight}]},
    }[form]
    with pytest.raises(KoviltError, match="^train.jsonl, line 4: 'answers' gives '네' the weight .* from 0 to 1$"):
        read_answers(row, SOURCE)


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ({'answers': {'예': 0, '네': 0.0}}, 'no answer a weight above 0'),
        ({'answers': {' ': 0.5}}, 'an empty answer a weight'),
        ({'answers': ['예'], 'answer_weights': [0.5, 0.5]}, "'answers' has 1 texts, 'answer_weights' is '.0.5, 0.5.'"),
        (
            {'answers': {'예': 1}, 'answer_weights': [1]},
            "'answer_weights' is '.1.'; give a list with a weight for each",
        ),
        ({'answer_weights': [1]}, "'answers' has 0 texts"),
        ({'answers': [{'answer': '예', 'weight': 1}, {'answer': '네'}]}, "gives '네' the weight ''"),
        ({'answers': [{'answer': '예', 'weight': 1}, '네']}, "gives '네' the weight ''"),
        ({'answers': ['예'], 'answer_weights': 'many'}, "the weight 'many'"),
        ({'answers': '{"예": 0.5'}, "the cell 'answers' is not JSON .answers, line 1, column 10: .*; write "),
    ],
    ids=str,
)
def test_what_is_no_set_of_weighted_answers_is_refused(row, message):
    with pytest.raises(KoviltError, match=rf'^train.jsonl, line 4.*{message}'):
        read_answers(row, SOURCE)


def test_classes_of_answers():
    assert AnswerVocabulary.build(COUNTS).classes(['예', '파란색', '아니요']).tolist() == [1, -1, 0]
