import pytest

from kovilt.datasets import QuestionDataset, VQAv2Reader
from kovilt.errors import KoviltError

QUESTIONS = 'v2_OpenEnded_mscoco_train2014_questions.json'
ANNOTATIONS = 'v2_mscoco_train2014_annotations.json'


def write_set(data, folder: str = 'train2014', name: str = 'COCO_train2014_{:012}.png') -> tuple[list, list]:
    """Five images of two questions each; the two files are not in the same order."""
    questions, annotations = [], []
    for number in range(1, 6):
        data.image(f'{folder}/{name.format(number)}', seed=number)
        for k in range(2):
            question_id = number * 1000 + k
            questions.append({'image_id': number, 'question': f'소파 위에 {number} {k}', 'question_id': question_id})
            answers = [f'답 {number}'] * 7 + ['고양이'] * 3
            annotations.append(
                {
                    'question_id': question_id,
                    'image_id': number,
                    'question_type': 'what',
                    'answer_type': 'other',
                    'multiple_choice_answer': f'답 {number}',
                    'answers': [
                        {'answer': answer, 'answer_confidence': 'yes', 'answer_id': place}
                        for place, answer in enumerate(answers, 1)
                    ],
                }
            )
    annotations.reverse()
    write(data, questions, annotations)
    return questions, annotations


def write(data, questions: list, annotations: list) -> None:
    about = {'info': {'version': '2.0'}, 'license': {}, 'data_subtype': 'train2014'}
    data.write(QUESTIONS, {**about, 'task_type': 'Open-Ended', 'questions': questions})
    data.write(ANNOTATIONS, {**about, 'annotations': annotations})


def open_(data, split='train', *, answers=None, target='hard', **files) -> QuestionDataset:
    names = ['COCO_train2014_{:0>12}.png', '{:0>12}.png']
    return data.open(VQAv2Reader, split, files={'image_names': names, **files}, answers=answers, target=target)


def check(dataset) -> None:
    assert len(dataset) == 10 and dataset.num_images == 5 and not dataset.left_out
    for row in range(10):
        record = dataset.record(row)
        number = int(record['question_id']) // 1000
        assert record['question'] == f'소파 위에 {number} {int(record["question_id"]) % 1000}'
        assert record['answer'] == f'답 {number}' and record['answers'] == [f'답 {number}'] * 7 + ['고양이'] * 3
        assert record['answer_type'] == 'other' and record['image'].endswith(f'{number}.png')
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(10)))


def test_pairs_of_files_are_joined_by_question_id(data):
    write_set(data)
    check(open_(data))


def test_images_in_zips_and_files_in_folders(data):
    write_set(data)
    data.zip('train2014.zip', 'train2014')
    (data.root / 'annotations').mkdir()
    for name in (QUESTIONS, ANNOTATIONS):
        (data.root / name).rename(data.root / 'annotations' / name)
    check(open_(data))


def test_images_of_coco_2017_are_found(data):
    write_set(data, 'train2017', '{:012}.png')
    check(open_(data))


def test_names_of_coco_are_the_default(data):
    write_set(data)
    for file in data.root.glob('train2014/*.png'):
        file.rename(file.with_suffix('.jpg'))
    assert data.open(VQAv2Reader).num_images == 5


def test_files_and_images_of_other_names(data):
    write_set(data, 'photos', '{}.png')
    (data.root / QUESTIONS).rename(data.root / 'q_train.json')
    (data.root / ANNOTATIONS).rename(data.root / 'a_train.json')
    check(open_(data, questions='q_{split}.json', annotations='a_{split}.json', image_names='{}.png'))
    with pytest.raises(KoviltError, match="image_names: '{id}.png'; {} in it stands for the image_id"):
        open_(data, image_names=['{id}.png'])


def test_sets_with_one_answer_a_question(data):
    questions, annotations = write_set(data)
    for row in annotations:
        del row['answers']
    write(data, questions, annotations)
    dataset = open_(data, answers={'min_count': 1}, target='soft')
    assert 'answers' not in dataset.record(0) and dataset[0]['label'].max() == 1


def test_without_a_chosen_answer_it_is_the_most_frequent(data):
    questions, annotations = write_set(data)
    for row in annotations:
        del row['multiple_choice_answer']
    write(data, questions, annotations)
    check(open_(data))


def test_unmatched_rows_are_counted(data):
    questions, annotations = write_set(data)
    write(data, questions[1:] + questions[1:2], annotations[1:] + annotations[1:2])
    dataset = open_(data)
    assert len(dataset) == 8
    assert dataset.left_out == {
        'question_id seen before': 1,
        'question_id not among the questions, or seen before': 2,
        'question without annotation': 1,
    }


@pytest.mark.parametrize(
    'name, content, message',
    [
        (QUESTIONS, '{"questions": [{]}', r'questions.json, line 1, column \d+: .*malformed or cut off'),
        (QUESTIONS, '{"questions": [{"question_id": 1000}]}',
         r"questions.json, line 1, column \d+: no 'image_id' in this row"),
        (ANNOTATIONS, '{"annotations": [{"questionid": 1}]}',
         r"line 1, column \d+: no 'question_id' in this row \(did you mean 'questionid'\?\)"),
        (ANNOTATIONS, '{"annotations": [{"question_id": 1000, "answers": 3}]}',
         r"line 1, column \d+: 'answers' is not a list"),
        (ANNOTATIONS, '{"questions": []}', r"has no list under 'annotations'"),
    ],
)  # fmt: skip
def test_malformed_files_are_reported_with_their_place(data, name, content, message):
    write_set(data)
    data.write(name, content)
    with pytest.raises(KoviltError, match=message) as error:
        open_(data)
    assert '\n' not in str(error.value)


def test_missing_files_are_named(data):
    write_set(data)
    with pytest.raises(KoviltError, match=r'v2_OpenEnded_mscoco_val2014_questions.json: no such file. Put the files'):
        open_(data, 'val')
    (data.root / 'train2014/COCO_train2014_000000000003.png').unlink()
    with pytest.raises(KoviltError, match='1 of 5 images are absent, e.g. COCO_train2014_000000000003.png or 0000'):
        open_(data)
