"""Conversations as LLaVA is trained on."""

import json

import pytest

from kovilt.datasets import LLaVAReader
from kovilt.errors import KoviltError


def conversation(number, *turns, **more):
    texts = turns or ('<image>\n소파는 무슨 색이에요?', '빨간색', '의자가 있어요?', '예')
    spoken = [{'from': ('human', 'gpt')[place % 2], 'value': text} for place, text in enumerate(texts)]
    return {'id': f'k{number}', 'image': f'images/{number}.png', 'conversations': spoken} | more


@pytest.fixture
def folder(data):
    for number in range(3):
        data.image(f'images/{number}.png', seed=number)
    return data


def records(dataset):
    return [dataset.record(row) for row in range(len(dataset))]


def test_the_first_turn_or_every_turn(folder):
    folder.write('llava_instruct.json', [conversation(number) for number in range(3)])
    folder.write('images.json', [{'file': 'images/0.png'}])  # of something else
    (first, *_), every = records(folder.open(LLaVAReader)), records(folder.open(LLaVAReader, files={'turns': 'all'}))
    assert (first['question'], first['answer'], first['question_id']) == ('소파는 무슨 색이에요?', '빨간색', 'k0')
    assert [(row['question_id'], row['answer']) for row in every[:2]] == [('k0', '빨간색'), ('k0-1', '예')]
    assert len(every) == 6


def test_jsonl_with_roles_and_a_system_turn(folder):
    lines = [
        {
            'images': ['images/0.png'],
            'messages': [
                {'role': 'system', 'content': '한국어로 답하라'},
                {'role': 'user', 'content': '공이 있어요? <image>'},
                {'role': 'assistant', 'content': '아니요'},
            ],
        },
    ] * 2
    folder.write('val.jsonl', '\n'.join(json.dumps(line, ensure_ascii=False) for line in lines) + '\n')
    rows = records(folder.open(LLaVAReader, 'val'))
    assert [(row['question'], row['answer'], row['question_id']) for row in rows] == [
        ('공이 있어요?', '아니요', '0'),
        ('공이 있어요?', '아니요', '1'),
    ]


BAD = {
    'two images': (conversation(0, image=['images/0.png', 'images/1.png']), '2 images in this conversation'),
    'no image': (conversation(0, image=None), 'no image in this conversation'),
    'two marks': (conversation(0, '<image> <image> 뭐?', '공'), '2 times <image> in a question'),
    'no list': ({'image': 'images/0.png', 'conversations': 'x'}, "no list 'conversations' or 'messages'"),
    'no turn': (conversation(0, conversations=[{'value': '뭐?'}]), "a turn is {'from': 'human', 'value': '...'}"),
    'list': ([], 'expecting an object'),
}


@pytest.mark.parametrize('row, message', BAD.values(), ids=list(BAD))
def test_bad_conversations_are_one_line_with_their_place(folder, row, message):
    folder.write('train.json', [conversation(1), row])
    with pytest.raises(KoviltError, match=rf'train.json, line \d+.*[:;] {message}') as error:
        folder.open(LLaVAReader)
    assert '\n' not in str(error.value)


def test_no_conversations(folder):
    folder.write('train.json', [{'image': 'a.png'}])
    with pytest.raises(KoviltError, match=r"no \*.json or \*.jsonl of split 'train'"):
        folder.open(LLaVAReader)
    with pytest.raises(KoviltError, match='columns: conversations have none'):
        folder.open(LLaVAReader, files={'columns': {'question': '질문'}})
