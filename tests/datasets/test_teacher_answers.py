"""A teacher's answers are matched to the rows that they belong to; files that do not fit are refused in one line."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from kovilt.datasets import AIHubLivingReader, PlainReader
from kovilt.datasets.table import TableBuilder, write_table
from kovilt.datasets.teacher_answers import COLUMNS, write_teacher_answers
from kovilt.errors import KoviltError
from tests.support.pair_data import QUESTIONS, SUBSET

PROBABILITIES = {'예': 0.6, '빨간색': 0.3, '모름': 0.1}
ANSWERS = {'min_count': 1}  # 예, 빨간색 and 2, each for 4 images


@pytest.fixture
def living(data):
    data.living()
    return data


def rows_of(dataset, scores=PROBABILITIES) -> list[dict]:
    """What a teacher would write for each row of a dataset."""
    records = [dataset.record(row) for row in range(len(dataset))]
    return [
        {
            'question_id': record['question_id'],
            'image_id': dataset.image_store.image_id(dataset.row_images[row]),
            'question': record['question'],
            'answers': list(scores),
            'log_probabilities': np.log(list(scores.values())).tolist(),
        }
        for row, record in enumerate(records)
    ]


def write_lines(data, rows: list[dict], name='teacher.jsonl') -> str:
    return str(data.write(name, '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)))


@pytest.fixture
def teacher(living, tmp_path) -> str:
    path = tmp_path / 'teacher.arrow'
    write_teacher_answers(path, rows_of(living.open(AIHubLivingReader)), {'teacher': 'rooms'})
    return str(path)


def expected(dataset, scores=PROBABILITIES) -> np.ndarray:
    """The log-probabilities of a row, float32 (C,)."""
    values = [scores.get(answer, 0) for answer in dataset.metainfo['answers']]
    with np.errstate(divide='ignore'):
        return np.log(np.array(values)).astype(np.float32)


def test_each_row_gets_the_scores_of_its_answers(living, teacher):
    dataset = living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=teacher)
    samples = dataset.__getitems__(range(len(dataset)))
    for sample in samples:
        np.testing.assert_allclose(sample['teacher_log_probs'], expected(dataset), rtol=1e-6)
        assert sample['teacher_log_probs'].dtype == np.float32
    assert dataset._teacher.coverage == (12, 12, pytest.approx(0.1))
    assert 'teacher_log_probs' not in living.open(AIHubLivingReader, answers=ANSWERS)[0]


def test_scores_belong_to_image_and_question_not_to_the_order(living, tmp_path):
    """Each row has scores of its own; the file has them in another order, and those of other rows."""
    rows = rows_of(living.open(AIHubLivingReader))
    for number, row in enumerate(rows):
        row |= {'answers': ['예', '2'], 'log_probabilities': [-0.1 * number, -3.0]}
    shuffled = [*reversed(rows), {**rows[0], 'question': '다른 질문', 'question_id': ''}]
    write_teacher_answers(tmp_path / 'teacher.arrow', shuffled, {})
    dataset = living.open(AIHubLivingReader, answers=ANSWERS, limit=7, teacher_answers=tmp_path / 'teacher.arrow')
    by_id = {row['question_id']: row['log_probabilities'][0] for row in rows}
    place = dataset.metainfo['answers'].index('예')
    assert len(dataset) == 7
    for row in range(7):
        record = dataset.record(row)
        assert dataset[row]['teacher_log_probs'][place] == pytest.approx(by_id[record['question_id']])


@pytest.mark.parametrize('keys', ['id', 'id and question', 'identity', 'file name', 'path', 'list'])
def test_any_model_may_be_the_teacher(living, keys):
    dataset = living.open(AIHubLivingReader)
    lines = []
    for row in range(len(dataset)):
        record = dataset.record(row)
        names = {
            'id': {'question_id': int(record['question_id'])},
            'id and question': {'question_id': record['question_id'], 'question': f' {record["question"]}'},
            'file name': {'image': record['image'].rpartition('/')[2], 'question': record['question']},
            'path': {'image': record['image'], 'question': record['question']},
        }
        names['identity'] = names['list'] = names['path']
        answers = [{'answer': a, 'weight': w} for a, w in PROBABILITIES.items()] if keys == 'list' else PROBABILITIES
        lines.append({**names[keys], 'answers': answers, 'model': 'large-vlm'})
    teacher = write_lines(living, lines)
    dataset = living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=teacher)
    np.testing.assert_allclose(dataset[0]['teacher_log_probs'], expected(dataset), rtol=1e-6)
    assert dataset._teacher.coverage.scored == 12


def test_a_path_names_an_image_of_a_table(data):
    data.image('images/a.png')
    data.write('train.jsonl', json.dumps({'image': 'images/a.png', 'question': '소파 위에', 'answer': '예'}))
    line = {'image': 'images/a.png', 'question': '소파  위에', 'answers': {'Yes': 1}}
    dataset = data.open(
        PlainReader, answers=ANSWERS, teacher_answers=write_lines(data, [line]), files={'answer_map': 'kvqa'}
    )
    assert dataset[0]['teacher_log_probs'].tolist() == [0]  # and the map of the data's answers is applied


def test_rows_without_scores_are_counted_and_told(living, tmp_path, monkeypatch):
    rows = rows_of(living.open(AIHubLivingReader))[:9]
    rows[0] = rows[0] | {'answers': ['모름'], 'log_probabilities': [0.0]}  # which the student does not know
    write_teacher_answers(tmp_path / 'teacher.arrow', rows, {})
    messages = []
    monkeypatch.setattr('kovilt.datasets.PairDataset._log', lambda self, message, level=0: messages.append(message))
    dataset = living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=tmp_path / 'teacher.arrow')
    samples = dataset.__getitems__(range(len(dataset)))
    alone = [bool(np.isneginf(sample['teacher_log_probs']).all()) for sample in samples]
    assert alone == [True] + 8 * [False] + 3 * [True]
    assert messages[-1].endswith(
        'scores for 8 of 12 rows; 10.00% of their probability falls on answers outside the vocabulary; 4 rows have no '
        'scores and train on their labels alone'
    )


def test_the_digest_of_the_data_is_that_of_the_scores_too(living, teacher, tmp_path):
    plain, taught = (
        living.open(AIHubLivingReader, answers=ANSWERS, **more) for more in ({}, {'teacher_answers': teacher})
    )
    assert plain.summary()['digest'] != taught.summary()['digest'] and 'teacher_answers' not in plain.summary()
    assert taught.summary()['teacher_answers'] == {'rows': 12, 'scored': 12, 'outside': pytest.approx(0.1)}
    digests = {taught.summary()['digest']}
    for number, scores in enumerate([PROBABILITIES, {**PROBABILITIES, '모름': 0.05}]):
        path = tmp_path / f'{number}.arrow'
        write_teacher_answers(path, rows_of(living.open(AIHubLivingReader), scores), {})
        digests.add(living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=path).summary()['digest'])
    assert len(digests) == 2  # a file that was moved is the same


def test_spawned_workers_map_the_file_again(living, teacher):
    dataset = living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=teacher)
    again = pickle.loads(pickle.dumps(dataset._teacher))
    np.testing.assert_array_equal(again.log_probabilities(0), dataset._teacher.log_probabilities(0))


def refusal(data, teacher, **options) -> str:
    with pytest.raises(KoviltError) as caught:
        data.open(AIHubLivingReader, **{'answers': ANSWERS, 'teacher_answers': teacher, **options})
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_teacher_needs_training_rows_with_labels(living, teacher):
    assert 'answers=dict(min_count=...)' in refusal(living, teacher, answers=None)
    assert 'training rows' in refusal(living, teacher, answers=None, test_mode=True)


def test_files_that_are_no_teachers_answers_are_refused(living, teacher, tmp_path):
    assert 'none.arrow: no such file' in refusal(living, tmp_path / 'none.arrow')
    content = (tmp_path / 'teacher.arrow').read_bytes()
    (tmp_path / 'cut.arrow').write_bytes(content[: len(content) // 2])
    assert 'cut.arrow: not a readable Arrow file' in refusal(living, tmp_path / 'cut.arrow')
    write_table(tmp_path / 'other.arrow', {'text': pa.array(['예'], pa.large_string())})
    assert "has no column 'question_id'" in refusal(living, tmp_path / 'other.arrow')
    rows = rows_of(living.open(AIHubLivingReader))
    for value in (float('nan'), float('inf'), float('-inf'), 0.5):
        rows[4]['log_probabilities'] = [-1.0, value, -2.0]
        builder = TableBuilder(COLUMNS)
        for row in rows:
            builder.append(row)
        write_table(tmp_path / 'wrong.arrow', builder.finish())
        assert f'wrong.arrow, row 4: log_probabilities has {value}' in refusal(living, tmp_path / 'wrong.arrow')
    rows[4]['log_probabilities'] = [-1.0]
    builder = TableBuilder(COLUMNS)
    for row in rows:
        builder.append(row)
    write_table(tmp_path / 'wrong.arrow', builder.finish())
    assert 'not as many log_probabilities as answers' in refusal(living, tmp_path / 'wrong.arrow')


def test_scores_of_other_data_are_refused(living, data, tmp_path):
    rows = rows_of(living.open(AIHubLivingReader))
    write_teacher_answers(tmp_path / 'other.arrow', [row | {'image_id': 5} for row in rows], {})
    assert 'none of its 12 rows is a question of ' in refusal(living, tmp_path / 'other.arrow')
    lines = [{'question_id': 1, 'question': '다른 데이터', 'answers': {'예': 1}}]
    message = refusal(living, write_lines(data, lines))
    assert "question_id '1' is the question '다른 데이터' there" in message and 'answers to other data' in message
    assert 'none of its 1 rows' in refusal(living, write_lines(data, [{'question_id': 99, 'answers': {'예': 1}}]))


LINE = {'question_id': 1, 'answers': {'예': 0.5}}


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ({**LINE, 'answers': {'예': 1.5}}, "line 2: 'answers' gives '예' the weight '1.5'; give a number from 0 to 1"),
        ({'question_id': 2, 'answer': {'예': 1}}, r"line 2: no 'answers' in this line \(did you mean 'answer'\?\)"),
        ({'questionid': 2, 'answers': {'예': 1}}, r"line 2: neither .* in this line \(did you mean 'questionid'\?\)"),
        ({'image': 'a.jpg', 'answers': {'예': 1}}, "line 2: neither 'question_id' nor 'image' and 'question'"),
        ({'question_id': 2, 'answers': ['예']}, "line 2: 'answers' has no probabilities"),
        ({**LINE, 'question_id': [2]}, "line 2: 'question_id' is a list"),
        ({'image': 'a.jpg', 'question': 3, 'answers': {'예': 1}}, "line 2: 'question' is the number 3"),
        (LINE, 'line 2: the same question as in line 1; remove one'),
        ('"예"', 'line 2: expecting an object'),
        ('{"question_id": 2, "answers": {"예": NaN}}', 'line 2, column'),
        ('{"question_id": 2, "answers": {"예', 'line 2, column'),
    ],
    ids=str,
)
def test_a_line_that_is_wrong_is_named(living, line, message):
    text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
    path = living.write('teacher.jsonl', f'{json.dumps(LINE, ensure_ascii=False)}\n{text}\n')
    with pytest.raises(KoviltError, match=rf'teacher.jsonl, {message}'):
        living.open(AIHubLivingReader, answers=ANSWERS, teacher_answers=path)


def test_a_question_id_of_several_rows_is_refused(living, data):
    labels = data.living(images=2)
    for row in labels['question']:
        row['question_id'] = [question for question, _, _ in QUESTIONS].index(row['question'])
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    assert "question_id '1' stands for several rows" in refusal(data, write_lines(data, [LINE]))
