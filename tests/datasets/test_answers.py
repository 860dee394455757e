import json

import pytest

from kovilt.datasets import AnswerVocabulary
from kovilt.errors import KoviltError

COUNTS = {'예': 9, '아니요': 9, '빨간색': 6, '파란색': 5, 'TV': 7}


def test_frequent_answers_are_kept_the_most_frequent_first():
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


def test_saved_and_loaded_it_is_the_same(tmp_path):
    path = tmp_path / 'answers.json'
    AnswerVocabulary.build(COUNTS).save(path)
    loaded = AnswerVocabulary.load(path)
    assert (loaded.answers, loaded.counts, loaded.min_count) == (['아니요', '예', 'TV', '빨간색'], [9, 9, 7, 6], 6)
    assert '아니요' in path.read_text('utf-8')
    assert [file.name for file in tmp_path.iterdir()] == ['answers.json']


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"answers": ["예"], ', 'line 1, column 20'),
        ('[]', 'not an answer vocabulary'),
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
    with pytest.raises(KoviltError, match='cannot be written'):
        AnswerVocabulary.build(COUNTS).save(tmp_path / 'nowhere' / 'answers.json')


def test_it_says_how_it_normalised(tmp_path):
    AnswerVocabulary.build(COUNTS).save(tmp_path / 'a.json')
    assert json.loads((tmp_path / 'a.json').read_text('utf-8'))['normalizer'] == 'normalize_korean'
