import pytest

from kovilt.datasets import AIHubKnowledgeReader, QuestionDataset
from kovilt.errors import KoviltError

TRAINING = '외부 지식 기반 멀티모달 질의응답/01.데이터/1.Training'
LABELS = f'{TRAINING}/라벨링데이터/VQA/문제.json'


def write_set(data, path: str = LABELS) -> dict:
    """Five images of two questions each, and labels of another kind beside them."""
    annotations = []
    for number in range(5):
        name = f'IMG_{number:04}.png'
        data.image(f'{TRAINING}/원천데이터/{number % 2}/{name}', seed=number)
        questions = [
            {
                'question_id': f'Q{number}{k}',
                'question_ko': f'소파 위에 {k}',
                'answer_ko': f'답 {number}{k}',
                'question_en': 'What?',
                'answer_en': 'This',
                'question_type': ['knowledge', 'object'][: k + 1],
                'fact': ['a', 'b', 'c'],
            }
            for k in range(2)
        ]
        annotations.append(
            {'IMAGE_ID': number, 'IMAGE_NAME': name, 'WIDTH': 48, 'questions': questions, 'bounding_box': []}
        )
    labels = {'annotations': annotations[::-1]}
    data.write(path, labels)
    data.write(f'{TRAINING}/라벨링데이터/지식/triples.json', {'annotations': [{'TRIPLE': 1}]})
    return labels


def open_(data, split='train', **options) -> QuestionDataset:
    return data.open(AIHubKnowledgeReader, split, **options)


def check(dataset) -> None:
    assert len(dataset) == 10 and dataset.num_images == 5 and not dataset.left_out
    records = [dataset.record(row) for row in range(10)]
    keys = ('question_id', 'question', 'answer', 'answer_type')
    assert {tuple(record[key] for key in keys) + (record['image'][-8:],) for record in records} == {
        (f'Q{n}{k}', f'소파 위에 {k}', f'답 {n}{k}', ['knowledge', 'knowledge, object'][k], f'{n:04}.png')
        for n in range(5)
        for k in range(2)
    }
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(10)))


def test_extracted_folders(data):
    write_set(data)
    check(open_(data))


def test_zips_as_downloaded(data):
    write_set(data)
    data.zip(f'{TRAINING}/라벨링데이터/TL_VQA.zip', f'{TRAINING}/라벨링데이터/VQA')
    data.zip(f'{TRAINING}/라벨링데이터/TL_지식.zip', f'{TRAINING}/라벨링데이터/지식')
    data.zip(f'{TRAINING}/원천데이터/TS_1.zip', f'{TRAINING}/원천데이터/1')
    check(open_(data))


def test_labels_elsewhere_are_known_by_their_name(data):
    write_set(data, f'{TRAINING}/VQA_문제.json')
    check(open_(data))


def test_an_english_question_alone_is_refused(data):
    labels = write_set(data)
    del labels['annotations'][0]['questions'][0]['question_ko']
    data.write(LABELS, labels)
    with pytest.raises(KoviltError, match=r"문제\.json, line \d+: no 'question_ko' in this row"):
        open_(data)


def test_images_without_questions_and_questions_without_answers(data):
    labels = write_set(data)
    labels['annotations'][0]['questions'] = []
    labels['annotations'][1]['questions'][0]['answer_ko'] = ''
    labels['annotations'][2]['questions'][0]['question_type'] = '지식'
    data.write(LABELS, labels)
    dataset = open_(data)
    assert len(dataset) == 7 and dataset.num_images == 4 and dataset.left_out == {'no answer': 1}
    assert '지식' in {dataset.record(row)['answer_type'] for row in range(7)}


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"annotations": [{"IMAGE_NAME": ', 'malformed or cut off'),
        ('{"annotations": [{"IMAGE_ID": 1}]}', r"line 1, column \d+: no 'IMAGE_NAME' in this row"),
        (
            '{"annotations": [{"IMAGE_NAME": "a.png", "questions": {"q": 1}}]}',
            r"line 1, column \d+: 'questions' is not a list",
        ),
        (
            '{"annotations": [{"IMAGE_NAME": "a.png", "questions": [1]}]}',
            r"line 1, column \d+: expecting an object, found '1'",
        ),
        ('{"data": []}', "has no list under 'annotations'"),
    ],
)
def test_malformed_labels_are_reported_with_their_place(data, text, message):
    write_set(data)
    data.write(LABELS, text)
    with pytest.raises(KoviltError, match=message) as error:
        open_(data)
    assert '\n' not in str(error.value)


def test_missing_data_says_what_to_get(data):
    write_set(data)
    with pytest.raises(KoviltError, match='no label file .* of Validation; 2 label files belong to another split'):
        open_(data, 'val')
