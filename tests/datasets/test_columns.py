import pickle

import pytest

from kovilt.datasets.columns import CategoryColumn, TextColumn

TEXTS = ['고양이', '', 'TV 위에', '예', '예', '', '가나다라마바사']


@pytest.mark.parametrize('kind', [TextColumn, CategoryColumn])
def test_what_goes_in_comes_out(kind):
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


def test_no_object_is_kept_per_row():
    column = TextColumn(str(number) for number in range(10_000)).freeze()
    assert len(pickle.dumps(column)) < 10_000 * (8 + 4) + 1000
