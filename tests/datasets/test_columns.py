import pickle

import numpy as np
import pytest

from kovilt.datasets import columns
from kovilt.datasets.columns import CategoryColumn, ListColumn, TextColumn

TEXTS = ['고양이', '', 'TV 위에', '예', '예', '', '가나다라마바사']


@pytest.mark.parametrize('kind', [TextColumn, CategoryColumn])
def test_a_column_gives_back_its_strings(kind):
    column = kind(TEXTS)
    assert [column[row] for row in range(len(column))] == TEXTS
    frozen = pickle.loads(pickle.dumps(column.freeze()))
    assert [frozen[row] for row in range(len(frozen))] == TEXTS
    with pytest.raises(IndexError):
        frozen[len(TEXTS)]


def test_a_category_is_stored_once():
    column = CategoryColumn(TEXTS).freeze()
    assert len(column.values) == 5
    assert column.codes.tolist() == [0, 1, 2, 3, 3, 1, 4]


@pytest.mark.parametrize('kind', [TextColumn, CategoryColumn])
def test_the_digest_tells_columns_apart(kind):
    digests = {kind(texts).freeze().digest() for texts in (TEXTS, TEXTS[:-1], ['고양', '이', *TEXTS[2:]], TEXTS[::-1])}
    assert len(digests) == 4
    assert kind(TEXTS).freeze().digest() in digests


def test_a_row_is_not_a_python_object():
    column = TextColumn(str(number) for number in range(10_000)).freeze()
    assert len(pickle.dumps(column)) < 10_000 * (8 + 4) + 1000


@pytest.mark.parametrize('rows', [TEXTS, ['', ''], []])
def test_a_column_can_be_rebuilt_from_mapped_arrays(rows, tmp_path):
    columns = TextColumn(rows), CategoryColumn(rows), ListColumn([rows, [], rows])
    for column in columns:
        arrays = {}
        for name, values in column.freeze().arrays().items():
            np.save(tmp_path / f'{name}.npy', values)
            arrays[name] = np.load(tmp_path / f'{name}.npy', mmap_mode='r')
        again = type(column).from_arrays(arrays)
        assert [again[row] for row in range(len(again))] == [column[row] for row in range(len(column))]
        assert again.digest() == column.digest()


LISTS = [['예', '예', '네'], [], ['아니요'], [], ['네', '예']]


def test_a_column_gives_back_its_lists():
    column = pickle.loads(pickle.dumps(ListColumn(LISTS).freeze()))
    assert [column[row] for row in range(len(column))] == LISTS
    assert len(column.items.values) == 3 and column.codes_of(0).tolist() == [0, 0, 1]
    with pytest.raises(IndexError):
        column[5]


def test_rows_that_contain_a_wanted_string_are_found():
    column = ListColumn(LISTS).freeze()
    wanted = np.array([column.items.values[code] == '네' for code in range(3)])
    assert column.contains_any(wanted).tolist() == [True, False, False, False, True]
    assert ListColumn([[], []]).freeze().contains_any(np.zeros(0, dtype=bool)).tolist() == [False, False]


def test_the_digest_tells_lists_apart():
    regrouped = [['예', '예'], ['네'], ['아니요'], [], ['네', '예']]
    digests = {ListColumn(rows).freeze().digest() for rows in (LISTS, regrouped, LISTS[:-1])}
    assert len(digests) == 3 and ListColumn(LISTS).freeze().digest() in digests


def test_ten_answers_take_forty_bytes_a_row():
    column = ListColumn([str((row + person) % 50) for person in range(10)] for row in range(10_000)).freeze()
    assert len(pickle.dumps(column)) < 10_000 * (10 * 4 + 8) + 2000


def test_values_are_normalized():
    assert (TextColumn.clean(None), TextColumn.clean(2), CategoryColumn.clean(' 두  개 ')) == ('', '2', '두 개')
    assert (ListColumn.clean(None), ListColumn.clean([' 예', None, '', 2])) == ([], ['예', '2'])


@pytest.mark.parametrize('at_once', [1, 3, 1 << 16])
def test_hashes_are_equal_for_equal_texts_alone(monkeypatch, at_once):
    monkeypatch.setattr(columns, '_HASH_CHUNK', at_once)
    texts = [*TEXTS, *map(str, range(2000)), *(f'상_train_동물/{number}' for number in range(100))]
    hashes = TextColumn(texts).freeze().hashes().tolist()
    assert len(set(hashes)) == len(set(texts))
    assert dict(zip(texts, hashes, strict=True)) == dict(reversed(list(zip(texts, hashes, strict=True))))
    assert dict(zip(texts, hashes, strict=True))[''] == 0
    assert TextColumn(['', '']).freeze().hashes().tolist() == [0, 0] and not len(TextColumn().freeze().hashes())
