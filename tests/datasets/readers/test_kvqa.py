import numpy as np
import pytest

from kovilt.datasets import KVQAReader, QuestionDataset
from kovilt.errors import KoviltError


def record(number: int, answers: list[str], kind: str = 'other') -> dict:
    return {
        'image': f'KVQA_190712_{number:05}.png',
        'source': 'kvqa',
        'answers': [{'answer': answer, 'answer_confidence': 'yes'} for answer in answers],
        'question': '소파 위에 뭐가 있어요?',
        'answerable': int(kind != 'unanswerable'),
        'answer_type': kind,
    }


RECORDS = [record(number, ['고양이'] * 7 + ['고양이 '] + ['공', '탁자']) for number in range(8)] + [
    record(8, ['unanswerable'] * 8 + ['고양이'] * 2, 'unanswerable'),
    record(9, ['예'] * 5 + ['네'] * 5, 'yes/no'),
]


@pytest.fixture
def kvqa(data):
    for number in range(10):
        data.image(f'images/KVQA_190712_{number:05}.png', seed=number)
    data.write('KVQA_annotations_train.json', RECORDS)
    return data


def open_(data, split='train', **options) -> QuestionDataset:
    return data.open(KVQAReader, split, **options)


def test_ten_answers_a_question(kvqa):
    dataset = open_(kvqa)
    assert len(dataset) == dataset.num_images == 10 and not dataset.left_out
    first = dataset.record(0)
    assert first.pop('image').endswith('images/KVQA_190712_00000.png')
    assert first == {
        'row': 0,
        'split': 'train',
        'question': '소파 위에 뭐가 있어요?',
        'question_id': 'KVQA_190712_00000',
        'answer': '고양이',
        'answers': ['고양이'] * 8 + ['공', '탁자'],
        'answer_type': 'other',
    }


def test_images_in_zips(kvqa):
    kvqa.zip('images.zip', 'images')
    dataset = open_(kvqa)
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(10)))


def test_soft_targets(kvqa):
    dataset = open_(kvqa, answers={'min_count': 1}, target='soft')
    assert dataset.metainfo['answers'] == ['고양이', 'unanswerable', '예']
    np.testing.assert_allclose(dataset[0]['label'], [1, 0, 0])
    np.testing.assert_allclose(dataset[8]['label'], [0.6, 1, 0], rtol=1e-6)


def test_unanswerable_questions_have_the_given_answer(kvqa):
    dataset = open_(kvqa, test_mode=True)
    assert dataset.record(8)['answer'] == dataset.record(8)['answer_type'] == 'unanswerable'
    assert dataset.record(8)['answers'].count('unanswerable') == 8


def test_the_file_without_splits_is_divided_the_same_way_everywhere(data):
    records = [record(number, ['예'] * 10) for number in range(200)]
    data.write('data/kvqa_annotations.json', records)
    texts_only = {'image_pipeline': [], 'test_mode': True}
    sets = [open_(data, split, **texts_only) for split in ('train', 'val')]
    train, val = ({dataset.record(row)['question_id'] for row in range(len(dataset))} for dataset in sets)
    assert not train & val and len(train | val) == 200
    assert sorted(val)[:3] == ['KVQA_190712_00000', 'KVQA_190712_00010', 'KVQA_190712_00011']
    with pytest.raises(KoviltError, match='neither KVQA_annotations_test.json nor kvqa_annotations.json'):
        open_(data, 'test', **texts_only)


@pytest.mark.parametrize(
    'content, message',
    [
        ('[{"image": "a.png"', 'line 1, column 19: .*malformed or cut off'),
        ([{'question': '예?'}], "json, line 2: no 'image' in this row"),
        ([{'image': 'a.png'}], "json, line 2: no 'question' in this row"),
        ([{'image': 'a.png', 'question': '예?', 'answers': '예'}], "json, line 2: 'answers' is not a list, but '예'"),
        ([{'image': 'a.png', 'question': '예?', 'answers': [{}]}], "json, line 2: 'answers' is an object"),
        ({'annotations': []}, 'has no list of rows'),
        ([{'image': 'a.png', 'question': '예?'}], r'left out: no answer \(1 rows\)|1 of 1 images are absent'),
    ],
)
def test_malformed_annotations_are_reported_with_their_place(kvqa, content, message):
    kvqa.write('KVQA_annotations_train.json', content)
    with pytest.raises(KoviltError, match=message) as error:
        open_(kvqa)
    assert '\n' not in str(error.value)


def test_missing_data_says_what_to_get(kvqa):
    with pytest.raises(KoviltError, match='neither KVQA_annotations_val.json .*Get KVQA from'):
        open_(kvqa, 'val')
    for file in kvqa.root.glob('images/*'):
        file.unlink()
    with pytest.raises(KoviltError, match='10 of 10 images are absent.*extracted from their tar.gz'):
        open_(kvqa)
