import pytest

from kovilt.datasets import AIHubLivingVQA
from kovilt.errors import KoviltError
from tests.support.pair_data import SUBSET


def open_(data, **options) -> AIHubLivingVQA:
    return AIHubLivingVQA(data_root=str(data.root), **{**data.pipelines, **options})


@pytest.fixture
def labels(data) -> dict:
    """Answers: 예 x 8, 빨간색 x 6, 2 x 6, 파란색 x 1, 보라색 x 3."""
    labels = data.living(pictures=8)
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
    with pytest.raises(KoviltError, match=r"unknown key 'mincount' in answers \(did you mean 'min_count'\?\)"):
        open_(data, answers={'mincount': 9})


def test_coverage_and_majority_are_said(data, labels, monkeypatch):
    said = []
    monkeypatch.setattr(AIHubLivingVQA, '_log', lambda self, message, level=0: said.append(message))
    open_(data, answers={'min_count': 6})
    assert said[0] == (
        "3 answers seen at least 6 times cover 83.33% of the rows; the most frequent, '예', is 33.33% of them"
    )
    assert said[1].startswith('20 rows on 8 pictures from') and said[1].endswith(
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
    with pytest.raises(KoviltError, match='built of training rows'):
        open_(data, answers={'min_count': 1}, test_mode=True)
    assert 'label' not in open_(data, test_mode=True)[0]
    assert 'answers' not in open_(data, test_mode=True).metainfo
