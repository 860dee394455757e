import unicodedata

import pytest

from kovilt.datasets import AIHubVisualReader, QuestionDataset
from kovilt.errors import KoviltError

CATEGORIES = ('동물', '음식')
LEVELS = ('상', '하')
TODAY = '시각정보 기반 질의응답/01.데이터/1.Training'


def write_set(data, labels: str, image_folder: str, word: str = 'train') -> None:
    """Two categories of two levels; ids are those of their folder, and the files are in different orders."""
    for category in CATEGORIES:
        for level in LEVELS:
            folder = f'{labels}/{category}/{level}_{word}_{category}'
            numbers = [1, 2] if level == '상' else [2, 3]  # the second image is asked about on both levels
            images = [{'image_id': n, 'image': f'{category}{n}.png', 'category': category} for n in numbers]
            questions = [
                {'question_id': 10 * n + k, 'image_id': n, 'question': f'소파 위에 {n} {k}'}
                for n in numbers
                for k in (1, 2)
            ]
            answers = [
                {
                    'question_id': row['question_id'],
                    'image_id': row['image_id'],
                    'multiple_choice_answer': f'{category} {level} {row["question_id"]} ',
                    'answer_confidence': 'yes',
                }
                for row in reversed(questions)
            ]
            data.write(f'{folder}/images.json', {'images': images[::-1]})
            data.write(f'{folder}/question.json', {'questions': questions})
            data.write(f'{folder}/annotation.json', {'annotations': answers})
            for number in numbers:
                data.image(f'{image_folder}/{category}/{category}{number}.png', seed=number)


def open_(data, split='train', **options) -> QuestionDataset:
    return data.open(AIHubVisualReader, split, **options)


def content(dataset) -> set[tuple[str, ...]]:
    records = [dataset.record(row) for row in range(len(dataset))]
    keys = ('question_id', 'question', 'answer', 'answer_type')
    return {tuple(record[key] for key in keys) + (record['image'].rsplit('/', 1)[1],) for record in records}


def expected(word: str = 'train') -> set[tuple[str, ...]]:
    return {
        (
            f'{level}_{word}_{category}/{n}{k}',
            f'소파 위에 {n} {k}',
            f'{category} {level} {n}{k}',
            '',
            f'{category}{n}.png',
        )
        for category in CATEGORIES
        for level, numbers in (('상', (1, 2)), ('하', (2, 3)))
        for n in numbers
        for k in (1, 2)
    }


def check(dataset, word: str = 'train') -> None:
    assert content(dataset) == expected(word)
    assert len(dataset) == 16 and dataset.num_images == 6 and not dataset.left_out
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(16)))


def test_extracted_folders(data):
    write_set(data, f'{TODAY}/라벨링데이터', f'{TODAY}/원천데이터')
    check(open_(data))


@pytest.mark.parametrize('cp949', [False, True])
def test_zips_as_downloaded(data, cp949):
    write_set(data, 'labels', 'images')
    data.zip(f'{TODAY}/라벨링데이터/라벨.zip', 'labels', cp949=cp949)
    for category in CATEGORIES:
        data.zip(f'{TODAY}/원천데이터/{category}.zip', f'images/{category}', cp949=cp949)
    check(open_(data))


def test_labels_anywhere_are_known_by_the_three_files(data):
    write_set(data, 'downloads/문제', 'photos')
    check(open_(data))


def test_the_splits_are_disjoint(data):
    write_set(data, f'{TODAY}/라벨링데이터', f'{TODAY}/원천데이터')
    validation = TODAY.replace('1.Training', '2.Validation')
    write_set(data, f'{validation}/라벨링데이터', f'{validation}/원천데이터', 'validate')
    check(open_(data))
    dataset = open_(data, 'val', test_mode=True)
    check(dataset, 'validate')
    assert all('2.Validation' in dataset.record(row)['image'] for row in range(16))
    with pytest.raises(KoviltError, match="split='test': AI-Hub 104 has 'train' and 'val'"):
        open_(data, 'test')


def test_decomposed_names(data):
    write_set(data, 'labels', 'images')
    for folder in ('labels', 'images'):
        for path in sorted((data.root / folder).rglob('*'), reverse=True):
            path.rename(path.with_name(unicodedata.normalize('NFD', path.name)))
    dataset = open_(data)
    found = {tuple(unicodedata.normalize('NFC', text) for text in row) for row in content(dataset)}
    assert found == expected()


def test_rows_that_cannot_be_used_are_counted(data):
    write_set(data, 'labels', 'images')
    folder = 'labels/동물/상_train_동물'
    questions = [
        {'question_id': 11, 'image_id': 1, 'question': '소파'},
        {'question_id': 11, 'image_id': 1, 'question': '소파'},
        {'question_id': 12, 'image_id': 7, 'question': '소파'},
        {'question_id': 99, 'image_id': 1, 'question': '소파'},
    ]
    data.write(f'{folder}/question.json', {'questions': questions})
    assert open_(data).left_out == {
        'question_id seen before': 1,
        'image not listed in the labels': 1,
        'no answer': 1,
    }
    test = open_(data, test_mode=True)
    assert test.left_out == {'question_id seen before': 1, 'no answer': 1}
    assert test.broken_images() == ['동물/image_id 7']


def test_absent_images_stop_training(data):
    write_set(data, 'labels', 'images')
    (data.root / 'images/동물/동물1.png').unlink()
    with pytest.raises(KoviltError, match='1 of 6 images are absent, e.g. 동물/동물1.png'):
        open_(data)
    assert len(open_(data, max_broken_fraction=0.2)) == 14


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('images', '{"images": [', r'images.json, line 1, column 13: .*malformed or cut off'),
        ('images', '{"images": [{"image_id": 1}]}', r"images.json, line 1, column \d+: no 'image' in this row"),
        ('question', '{"questions": [{"question_id": 1}]}',
         r"question.json, line 1, column \d+: no 'image_id' in this row"),
        ('annotation', '{"annotations":\n[{"question": 1}]}',
         r"annotation.json, line 2, column \d+: no 'question_id' in this row \(did you mean 'question'\?\)"),
        ('annotation', '{"annotations": [1]}', r'annotation.json, line 1, column \d+: expecting an object'),
    ],
)  # fmt: skip
def test_malformed_labels_are_reported_with_their_place(data, name, text, message):
    write_set(data, 'labels', 'images')
    data.write(f'labels/동물/상_train_동물/{name}.json', text)
    with pytest.raises(KoviltError, match=message) as error:
        open_(data)
    assert '\n' not in str(error.value)


def test_a_file_of_three_that_is_missing_is_named(data):
    write_set(data, 'labels', 'images')
    (data.root / 'labels/동물/상_train_동물/annotation.json').unlink()
    with pytest.raises(KoviltError, match=r'상_train_동물: no annotation\.json beside images, question\.json'):
        open_(data)


def test_missing_data_says_what_to_get(data):
    data.image('a.png')
    with pytest.raises(KoviltError, match='no label file .*dataSetSn=104'):
        open_(data)
