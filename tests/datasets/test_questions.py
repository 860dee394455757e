import json

import numpy as np
import pytest

from kovilt.datasets import AIHubLivingReader, PlainReader, QuestionDataset
from kovilt.errors import KoviltError
from tests.support.pair_data import SUBSET


def open_(data, **options) -> QuestionDataset:
    return data.open(AIHubLivingReader, **options)


@pytest.fixture
def labels(data) -> dict:
    """Answers: 예 x 8, 빨간색 x 6, 2 x 6, 파란색 x 1, 보라색 x 3."""
    labels = data.living(images=8)
    for row in labels['question']:
        number = row['question_id'] // 3
        if row['answer_type'] == '색' and number in (2, 5):
            row['answer'] = '  파란색' if number == 2 else '보라색'
        if row['answer_type'] == '개수' and number in (1, 2):
            row['answer'] = '보라색'
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    return labels


def test_rare_answers_are_left_out_of_training(data, labels):
    dataset = open_(data, answers={'min_count': 6})
    assert dataset.metainfo['answers'] == ['예', '2', '빨간색'] and dataset.metainfo['answer_counts'] == [8, 6, 6]
    assert dataset.left_out == {'answer outside the vocabulary': 4} and len(dataset) == 20
    answers = dataset.metainfo['answers']
    for row in range(20):
        assert answers[dataset[row]['label']] == dataset.record(row)['answer']


def test_the_threshold_is_a_parameter(data, labels):
    assert open_(data, answers={'min_count': 3}).metainfo['answers'] == ['예', '2', '빨간색', '보라색']
    with pytest.raises(KoviltError, match='answer vocabulary is empty: none of 5 answers occurs min_count=9 times'):
        open_(data, answers={'min_count': 9})
    with pytest.raises(KoviltError, match=r"unknown key 'mincount' in .*answers \(did you mean 'min_count'\?\)"):
        open_(data, answers={'mincount': 9})


def test_coverage_and_majority_are_logged(data, labels, monkeypatch):
    messages = []
    monkeypatch.setattr(QuestionDataset, '_log', lambda self, message, level=0: messages.append(message))
    open_(data, answers={'min_count': 6})
    assert messages[0] == (
        "3 answers seen at least 6 times cover 83.33% of the rows; the most frequent, '예', is 33.33% of them"
    )
    assert messages[1].startswith('20 rows on 8 images from') and messages[1].endswith(
        'answer outside the vocabulary (4 rows)'
    )


def test_a_set_without_answers_is_refused(data, labels):
    for row in labels['question']:
        row['answer'] = None
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    for test_mode in (True, False):
        with pytest.raises(KoviltError, match=r"no rows of split 'train': left out: no answer \(24 rows\)"):
            open_(data, test_mode=test_mode)


def test_a_part_of_the_data_has_the_classes_of_the_whole(data, labels):
    dataset = open_(data, answers={'min_count': 6}, limit=5)
    assert len(dataset) == 5 and dataset.metainfo['answers'] == ['예', '2', '빨간색']
    assert dataset.metainfo['answer_counts'] == [8, 6, 6]


def test_evaluation_reads_a_saved_vocabulary_and_keeps_all_rows(data, labels, tmp_path):
    open_(data, answers={'min_count': 6}).answer_vocabulary.save(tmp_path / 'answers.json')
    dataset = open_(data, answers=str(tmp_path / 'answers.json'), test_mode=True)
    assert len(dataset) == 24
    found = [dataset[row]['label'] for row in range(24)]
    assert found.count(-1) == 4 and found.count(0) == 8
    assert open_(data, answers=tmp_path / 'answers.json').left_out == {'answer outside the vocabulary': 4}


def test_evaluation_builds_no_vocabulary(data, labels):
    with pytest.raises(KoviltError, match='built from training rows'):
        open_(data, answers={'min_count': 1}, test_mode=True)
    assert 'label' not in open_(data, test_mode=True)[0]
    assert 'answers' not in open_(data, test_mode=True).metainfo


def test_a_single_answer_has_score_1(data, labels):
    """VQA's rule for ten would give 0.3 to an answer that occurs once."""
    dataset = open_(data, answers={'min_count': 6}, target='soft')
    for row in range(len(dataset)):
        expected = np.eye(3, dtype=np.float32)[dataset.metainfo['answers'].index(dataset.record(row)['answer'])]
        np.testing.assert_array_equal(dataset[row]['label'], expected)
    with pytest.raises(KoviltError, match="target is 'smooth'; it must be one of 'hard', 'soft'"):
        open_(data, target='smooth')


def test_the_same_id_about_another_image_is_another_question(data):
    labels = data.living(images=2)
    for row in labels['question']:
        row['question_id'] = 7 if row['answer_type'] == '색' else 8
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    dataset = open_(data)
    assert [(dataset.record(row)['question_id'], dataset.row_images[row]) for row in range(4)] == [
        ('8', 0), ('7', 0), ('8', 1), ('7', 1)
    ]  # fmt: skip
    assert dataset.left_out == {'question_id seen before': 2}


PEOPLE = [  # answers to five questions; 7 rows have 예 most often, so that it is class 0
    ['예'] * 6 + ['네'] * 3 + ['응'],
    ['네'] * 5 + ['예'] * 4 + [' 네'],
    ['파란색', '보라색', '네', '네', '예', '예', '예', '남색', '남색', '남색'],
    ['보라색'] * 10,
    ['네'] * 3 + ['보라색'] * 7,
]


@pytest.fixture
def people(data):
    """A set with the answers of ten people; 예 and 네 are known to the vocabulary, 예 seen more often."""
    rows = [{'image': 'a.png', 'question': '소파 위에', 'answers': answers} for answers in PEOPLE]
    rows += [{'image': 'b.png', 'question': '소파 위에', 'answer': answer} for answer in ['예'] * 6 + ['네'] * 4]
    data.image('a.png')
    data.image('b.png')
    data.write('train.jsonl', '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))
    data.write('val.jsonl', '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))

    def open_plain(split='train', **options) -> QuestionDataset:
        return data.open(PlainReader, split, **options)

    return open_plain


def test_the_vocabulary_is_made_of_the_most_frequent_answers(people):
    dataset = people(answers={'min_count': 4})
    assert dataset.metainfo['answers'] == ['예', '네'] and dataset.metainfo['answer_counts'] == [8, 5]
    assert dataset.record(2)['answer'] == '예'  # as often as 남색, and given first


def test_a_hard_label_is_the_most_frequent_known_answer(people):
    dataset = people(answers={'min_count': 4})
    assert [dataset[row]['label'] for row in range(4)] == [0, 1, 0, 1]  # the last: 보라색 is outside, 네 is not
    assert dataset.left_out == {'answer outside the vocabulary': 1} and len(dataset) == 14


def test_of_answers_given_equally_often_training_decides(people, data):
    row = {'image': 'a.png', 'question': '소파 위에', 'answers': ['네'] * 5 + ['예'] * 5}
    data.root.joinpath('train.jsonl').open('a').write('\n' + json.dumps(row))
    dataset = people(answers={'min_count': 4})
    (found,) = [row for row in range(len(dataset)) if dataset.record(row).get('answers', []).count('예') == 5]
    assert dataset.record(found)['answer'] == '네' and dataset[found]['label'] == 0


def test_a_soft_label_scores_all_known_answers(people):
    dataset = people(answers={'min_count': 4}, target='soft')
    expected = [[1, 0.9], [1, 1], [0.9, 0.6], [0, 0.9], [1, 0]]
    for row, scores in enumerate(expected):
        label = dataset[row]['label']
        assert label.dtype == np.float32
        np.testing.assert_allclose(label, scores, rtol=1e-6)


def test_a_record_has_the_answers_of_all_where_there_are_several(people):
    dataset = people('val', test_mode=True, keep_record=True)
    record = dataset[1]['record']
    assert record['answers'] == ['네'] * 5 + ['예'] * 4 + ['네'] and record['answer'] == '네'
    assert 'answers' not in dataset[5]['record'] and dataset[5]['record']['answer'] == '예'


def test_in_evaluation_unknown_answers_have_no_class(people, tmp_path):
    people(answers={'min_count': 4}).answer_vocabulary.save(tmp_path / 'answers.json')
    for target, label in (('hard', -1), ('soft', [0, 0])):
        dataset = people('val', test_mode=True, answers=tmp_path / 'answers.json', target=target)
        assert len(dataset) == 15 and np.array_equal(dataset[3]['label'], label)


WEIGHTS = [{'예': 0.3, '네': 0.6, '응': 0.1}, {'응': 0.9, '예': 0.05}, {'네': 0.7}]


@pytest.fixture
def weighted(data):
    """Rows whose answers have weights, before rows without; 예 and 네 are frequent enough."""
    rows = [{'image': 'a.png', 'question': f'소파 {n}', 'answers': answers} for n, answers in enumerate(WEIGHTS)]
    rows += [{'image': 'b.png', 'question': '소파 위에', 'answer': answer} for answer in ['예'] * 7 + ['네'] * 4]
    for name in ('a.png', 'b.png'):
        data.image(name)
    data.write('train.jsonl', '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))
    return data


def test_a_weight_is_the_score_of_its_answer(weighted):
    dataset = weighted.open(PlainReader, answers={'min_count': 4}, target='soft')
    assert dataset.metainfo['answers'] == ['예', '네'] and dataset.metainfo['answer_counts'] == [7, 6]
    for row, expected in enumerate([[0.3, 0.6], [0.05, 0], [0, 0.7], [1, 0]]):
        np.testing.assert_array_equal(dataset[row]['label'], np.array(expected, np.float32))


def test_a_hard_label_is_the_known_answer_of_greatest_weight(weighted):
    dataset = weighted.open(PlainReader, answers={'min_count': 4})
    assert [dataset[row]['label'] for row in range(4)] == [1, 0, 1, 0]
    records = [dataset.record(row) for row in range(4)]
    assert [record['answer'] for record in records] == ['네', '응', '네', '예']
    assert records[0]['answers'] == ['예', '네', '응'] and records[0]['answer_weights'] == [0.3, 0.6, 0.1]
    assert not {'answers', 'answer_weights'} & records[3].keys()


def test_equal_answers_add_their_weights_after_normalization_and_a_map(data):
    data.image('a.png')
    row = {'image': 'a.png', 'question': '소파', 'answers': {'Yes': 0.4, '예 ': 0.3, '아니요': 0.5, 'yes': 0.5}}
    data.write('train.jsonl', json.dumps(row, ensure_ascii=False))
    record = data.open(PlainReader, files={'answer_map': 'kvqa'}).record(0)
    assert record['answers'] == ['예', '아니요'] and record['answer_weights'] == [1.0, 0.5]
