import numpy as np
import pyarrow as pa

from kovilt.datasets import QuestionReader
from kovilt.datasets.rows import clean_row, group_by_image
from kovilt.datasets.table import STRING, TableBuilder


def test_values_are_normalized():
    record = {'question': ' 두  개 ', 'question_id': 2, 'answers': [' 예', None, '', 2]}
    values = clean_row(QuestionReader.SEVERAL_ANSWERS, record, 'labels.json, line 4')
    assert values == {
        'question': '두 개',
        'question_id': '2',
        'answer': '예',
        'answer_type': '',
        'answers': ['예', '2'],
    }


def test_rows_are_grouped_by_image_and_repeated_ones_dropped():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = [(int(i), str(rng.integers(5)), rng.choice(['', '1', '2'])) for i in rng.integers(0, 4, rng.integers(9))]
        builder = TableBuilder({'question': STRING, 'question_id': STRING, 'image': pa.int32()})
        for image, question, question_id in rows:
            builder.append({'question': question, 'question_id': question_id, 'image': image})
        table, dropped = group_by_image(builder.finish())
        seen, expected = set(), []
        for image, question, question_id in rows:
            if not question_id or (image, question_id) not in seen:
                expected.append((image, question, question_id))
            seen.add((image, question_id))
        found = zip(*(table[name].to_pylist() for name in ('image', 'question', 'question_id')), strict=True)
        assert list(found) == sorted(expected, key=lambda row: row[0]) and dropped == len(rows) - len(expected)
