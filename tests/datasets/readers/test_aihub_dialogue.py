"""AI-Hub 101's new issue, of which the names of the fields are public and their nesting is not."""

import pytest
from mmengine.logging import MMLogger

from kovilt.datasets import AIHubDialogueReader
from kovilt.errors import KoviltError

REST = {
    'instruction': {'archetype': '아동', 'persona': '7세 어린이', 'task': '색 묻기'},
    'scene': '거실',
    'facts': ['소파는 빨간색이다'],
    'cot1': '소파를 찾는다',
    'cot2': '색을 본다',
    'cot3': '답한다',
}
QUESTIONS = [('소파는 무슨 색이에요?', '빨간색'), ('공이 있어', '아니요'), ('몇 개예요?', '2')]
TURNS = {
    'list': {'qa': [{'question': q, 'answer': a, 'level': 1} for q, a in QUESTIONS]},
    'Korean keys': {'대화': [{'질문': q, '답변': a} for q, a in QUESTIONS]},
    'numbered': {
        f'{key}{number}': text
        for number, pair in enumerate(QUESTIONS, 1)
        for key, text in zip(('question', 'answer'), pair, strict=True)
    },
    'numbered object': {
        'turns': {f'{key}_{n}': pair[key == 'a'] for n, pair in enumerate(QUESTIONS, 1) for key in 'qa'}
    },
    'roles': {
        'conversation': [
            {'role': role, 'content': text}
            for pair in QUESTIONS
            for role, text in zip(('user', 'assistant'), pair, strict=True)
        ]
    },
    'nested': {'data': {'dialogue': [{'question': q, 'answer': a} for q, a in QUESTIONS]}},
}
IMAGES = {
    'file': {'image': '7.jpg'},
    'path': {'file_name': 'Training/원천데이터/7.jpg'},
    'id': {'image_id': '7'},
    'nested': {'image_info': {'image_name': '7.jpg', 'width': 640}},
}


@pytest.fixture
def images(data):
    for number in (7, 8):
        data.image(f'1.Training/원천데이터/거실/{number}.jpg', seed=number)
    return data


def records(data, content):
    data.write('1.Training/라벨링데이터/VQA_001.json', content)
    dataset = data.open(AIHubDialogueReader)
    samples = dataset.__getitems__(list(range(len(dataset))))
    assert all(sample['image']['grid'] == (2, 3) for sample in samples)
    return [dataset.record(row) for row in range(len(dataset))]


@pytest.mark.parametrize('image', IMAGES.values(), ids=list(IMAGES))
@pytest.mark.parametrize('turns', TURNS.values(), ids=list(TURNS))
def test_every_turn_is_a_row_however_it_is_nested(images, turns, image):
    found = records(images, image | REST | turns)
    assert [(record['question'], record['answer']) for record in found] == QUESTIONS
    assert len({record['question_id'] for record in found}) == 3


@pytest.mark.parametrize('wrap', [lambda rows: rows, lambda rows: {'version': 1, 'data': rows}], ids=['list', 'object'])
def test_files_of_many_records(images, wrap):
    rows = [{'image': f'{number}.jpg'} | REST | TURNS['list'] for number in (7, 8)]
    assert len(records(images, wrap(rows))) == 6


def test_the_fields_that_were_used_are_told(images, monkeypatch):
    told = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handle', lambda record: told.append(record.getMessage()))
    records(images, [{'image': '7.jpg', 'unknown': 3} | REST | TURNS['list']])
    (line,) = [text for text in told if 'not used' in text]
    assert 'train: used image (1), qa[].answer (3), qa[].question (3)' in line
    assert line.endswith('not used: cot1, cot2, cot3, facts, instruction, scene, unknown')


@pytest.mark.parametrize(
    'record, message',
    [
        (REST | TURNS['list'], r'VQA_001.json, line \d+.*: no field that names an image'),
        ({'image': '7.jpg'} | REST | {'qa': [{'question': 3, 'answer': '공'}]}, 'is the number 3, not a text'),
        ({'image': '7.jpg'} | REST, r'left out: a record without a question \(1 rows\)'),
        ('text', 'VQA_001.json: holds no record|has no list|expecting'),
    ],
)
def test_records_that_cannot_be_read(images, record, message):
    images.write('1.Training/라벨링데이터/VQA_001.json', [record])
    with pytest.raises(KoviltError, match=message) as error:
        images.open(AIHubDialogueReader)
    assert '\n' not in str(error.value)
