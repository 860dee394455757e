"""Answers replaced by a table: in every reader of questions, in the answer vocabulary and in evaluation."""

import json

import pytest

from kovilt.datasets import AIHubKnowledgeReader, KVQAReader, ParquetReader, PlainReader
from kovilt.datasets.answer_maps import PACKAGED, load_answer_map
from kovilt.errors import KoviltError


@pytest.fixture
def kvqa(data):
    rows = []
    for number, answers in enumerate((['Yes'] * 6 + ['yes'] * 2 + ['No'] * 2, ['unanswerable'] * 10, ['공'] * 10)):
        data.image(f'{number}.png', seed=number)
        given = [{'answer': answer} for answer in answers]
        rows.append({'image': f'{number}.png', 'question': '불이 켜져 있어요?', 'answers': given})
    data.write('KVQA_annotations_train.json', rows)
    return data


def test_kvqa(kvqa):
    options = {'answers': {'min_count': 1}}
    assert set(kvqa.open(KVQAReader, **options).metainfo['answers']) == {'Yes', 'unanswerable', '공'}
    dataset = kvqa.open(KVQAReader, files={'answer_map': 'kvqa'}, **options)
    assert set(dataset.metainfo['answers']) == {'예', '답할 수 없음', '공'}
    assert dataset.record(0)['answers'] == ['예'] * 8 + ['아니요'] * 2 and dataset.record(0)['answer'] == '예'


def test_the_most_frequent_answer_is_that_of_the_mapped_ones(data):
    data.image('a.png')
    answers = ['공'] * 4 + ['Yes'] * 3 + ['예'] * 3
    data.write('train.jsonl', json.dumps({'image': 'a.png', 'question': '뭐?', 'answers': answers}) + '\n')
    assert data.open(PlainReader).record(0)['answer'] == '공'
    assert data.open(PlainReader, files={'answer_map': 'kvqa'}).record(0)['answer'] == '예'


def test_a_table_of_ones_own(data):
    data.image('a.png')
    rows = [{'image': 'a.png', 'question': f'뭐 {n}?', 'answer': text} for n, text in enumerate(['BALL', '탁자'])]
    data.write('train.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    table = data.write('내 답.json', {'ball': '공'})
    dataset = data.open(PlainReader, files={'answer_map': str(table), 'cache': True})
    assert [dataset.record(row)['answer'] for row in (0, 1)] == ['공', '탁자']
    data.write('내 답.json', {'ball': '구슬'})
    load_answer_map.cache_clear()  # of another process
    again = data.open(PlainReader, files={'answer_map': str(table), 'cache': True})
    assert again.record(0)['answer'] == '구슬'
    with pytest.raises(KoviltError, match="answer_map 'none': neither a table of kovilt .'kvqa', '71357'. nor a JSON"):
        data.open(PlainReader, files={'answer_map': 'none'})


@pytest.mark.parametrize('content', [{'ball': ['공']}, {'ball': ' '}, {'ball': 3}])
def test_a_table_that_maps_to_no_text(data, content):
    table = data.write('a.json', content)
    with pytest.raises(KoviltError, match="a.json: 'ball' is mapped to .*; give a text"):
        load_answer_map(str(table))


def test_packaged_tables():
    assert set(PACKAGED) == {'kvqa', '71357'}
    assert load_answer_map('kvqa')['yes'] == '예' and load_answer_map('71357')['no'] == '아니요'
    for table in PACKAGED.values():  # nothing is mapped twice
        assert not {value.casefold() for value in table.values()} & {key.casefold() for key in table}


@pytest.mark.parametrize('reader', [KVQAReader, AIHubKnowledgeReader, ParquetReader])
def test_a_wrong_name_is_told_before_the_files_are_read(kvqa, reader):
    with pytest.raises(KoviltError, match="answer_map 'kvqq'"):
        kvqa.open(reader, files={'answer_map': 'kvqq'})
