"""What `kovilt sweep` varies, as it is typed."""

import pytest

from kovilt.errors import KoviltError
from kovilt.recipes.search_space import ValueList, ValueRange, describe, folder_name, grid, parse_dimensions, short_keys


def test_lists_and_ranges():
    texts = ['a.lr=1e-4..1e-2:log', 'a.layers=2..12', 'a.drop=0..0.3', 'b=(0.9, 0.98),[1,2],"x,y",{"k": (1,2)}', 'c=x']
    assert parse_dimensions([*texts, 'd=../data,/data', 'e=-1,1,-1']) == [
        ValueRange('a.lr', 1e-4, 1e-2, log=True),
        ValueRange('a.layers', 2, 12, log=False),
        ValueRange('a.drop', 0.0, 0.3, log=False),
        ValueList('b', ('(0.9, 0.98)', '[1,2]', '"x,y"', '{"k": (1,2)}')),
        ValueList('c', ('x',)),
        ValueList('d', ('../data', '/data')),
        ValueList('e', ('-1', '1')),
    ]
    assert isinstance(parse_dimensions(['a=2..12'])[0].low, int)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('lr', 'write KEY=VALUE,VALUE'),
        ('lr=', 'write KEY=VALUE,VALUE'),
        ('a..b=1', 'write KEY=VALUE,VALUE'),
        ('lr=1,,2', 'a value is empty'),
        ('lr=2..1', 'the low end must be below the high end'),
        ('lr=0..1:log', 'and above 0 for :log'),
        ('lr=1..2:linear', 'only log is known'),
        ('randomness.seed=1,2', '--seeds K'),
    ],
)
def test_a_mistake_is_named(text, message):
    with pytest.raises(KoviltError, match=message):
        parse_dimensions([text])


def test_a_key_has_one_list():
    with pytest.raises(KoviltError, match='^lr: named twice'):
        parse_dimensions(['lr=1', 'a=2', 'lr=3'])


def test_the_grid_has_all_combinations_and_no_range():
    settings = list(grid(parse_dimensions(['a=1,2', 'b=x,y'])))
    assert settings == [{'a': one, 'b': other} for one in '12' for other in 'xy']
    with pytest.raises(KoviltError, match='a range is searched with --optuna'):
        list(grid(parse_dimensions(['a=1..2'])))


def test_names_are_short_different_and_those_of_files():
    assert list(short_keys(['optim.lr', 'a.drop', 'b.drop']).values()) == ['lr', 'a.drop', 'b.drop']
    assert list(short_keys(['lr', 'head.lr']).values()) == ['lr', 'head.lr']
    assert describe({'a.lr': '1', 'b.drop': '2'}) == 'lr=1, drop=2'
    assert folder_name({'a.lr': '1e-4', 'b.drop': '0.1'}, 3) == 'lr=1e-4,drop=0.1,seed=3'
    settings = [{'a': value} for value in ('/x/1', '/x_1', '[1, 2]', '[1,2]', '한' * 100, '한' * 101)]
    names = [folder_name(setting, 0) for setting in settings]
    assert len(set(names)) == len(names)
    assert all('/' not in name and ' ' not in name and len(name.encode()) < 255 for name in names)
