import pickle

import numpy as np
import pytest

from kovilt.datasets.table import (
    CATEGORY,
    CATEGORY_LIST,
    STRING,
    TableBuilder,
    digest_table,
    map_table,
    take_rows,
    write_table,
)
from kovilt.errors import KoviltError

TEXTS = ['고양이', '', 'TV 위에', '예', '예', '', '가나다라마바사']
LISTS = [['예', '예', '네'], [], ['아니요'], [], ['네', '예'], ['아니요'], []]
TYPES = {'text': STRING, 'answer': CATEGORY, 'answers': CATEGORY_LIST}


def build(texts=TEXTS, lists=LISTS):
    builder = TableBuilder(TYPES)
    for text, several in zip(texts, lists, strict=True):
        builder.append({'text': text, 'answer': text, 'answers': several})
    assert len(builder) == len(texts)
    return builder.finish()


def values(table):
    return [column.to_pylist() for column in table.values()]


def test_a_table_gives_back_its_rows():
    table = build()
    assert values(table) == [TEXTS, TEXTS, LISTS]
    assert [column[4].as_py() for column in table.values()] == ['예', '예', ['네', '예']]
    assert values(pickle.loads(pickle.dumps(table))) == [TEXTS, TEXTS, LISTS]


def test_a_category_is_stored_once():
    table = build()
    assert table['answer'].dictionary.to_pylist() == ['고양이', '', 'TV 위에', '예', '가나다라마바사']
    assert table['answer'].indices.to_pylist() == [0, 1, 2, 3, 3, 1, 4]
    assert table['answers'].values.dictionary.to_pylist() == ['예', '네', '아니요']
    assert table['answers'][4].values.indices.to_pylist() == [1, 0]


@pytest.mark.parametrize('texts, lists', [(TEXTS, LISTS), (['', ''], [[], []]), ([], [])])
def test_a_file_is_mapped_as_it_was_written(texts, lists, tmp_path):
    table = build(texts, lists)
    write_table(tmp_path / 'rows.arrow', table)
    mapped = map_table(tmp_path / 'rows.arrow')
    assert values(mapped) == values(table) and digest_table(mapped) == digest_table(table)


@pytest.mark.parametrize('content', [b'', b'ARROW1', b'x' * 500])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / 'rows.arrow').write_bytes(content)
    with pytest.raises(KoviltError, match=r'rows\.arrow: not a readable Arrow file \([^\n]*\)$'):
        map_table(tmp_path / 'rows.arrow')


def test_the_digest_tells_tables_apart():
    regrouped = [['예', '예'], ['네'], *LISTS[2:]]
    others = [(TEXTS[:-1], LISTS[:-1]), (['고양', '이', *TEXTS[2:]], LISTS), (TEXTS[::-1], LISTS), (TEXTS, regrouped)]
    assert len({digest_table(build()), *(digest_table(build(*other)) for other in others)}) == 5
    assert digest_table(build()) == digest_table(build())


def test_rows_are_taken_in_the_order_asked_for():
    assert values(take_rows(build(), np.array([4, 0, 0]))) == [
        ['예', '고양이', '고양이'],
        ['예', '고양이', '고양이'],
        [['네', '예'], ['예', '예', '네'], ['예', '예', '네']],
    ]


def test_a_row_is_not_a_python_object():
    table = build([str(number % 50) for number in range(10_000)], [[str(number % 9)] * 10 for number in range(10_000)])
    assert len(pickle.dumps(table)) < 10_000 * ((8 + 2) + 4 + (4 + 10 * 4)) + 4000
