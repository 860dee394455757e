"""The config text of a checkpoint gives its values; anything but values is refused and never run."""

import pytest
from mmengine.config import Config

from kovilt.errors import KoviltError
from kovilt.formats.plain_config import read_plain_config


@pytest.mark.parametrize(
    'value',
    ['open("written", "w")', 'dict(**{})', '__import__("os").sep', '[x for x in ()]', 'dict([(1, 2)])', '{**{}}'],
)
def test_expressions_are_refused_and_not_run(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KoviltError, match='x, line 2: no plain value'):
        read_plain_config(f'a = 1\nb = {value}', source='x')
    assert not (tmp_path / 'written').exists()


def test_other_lines_are_refused():
    for text in ('open("written", "w")', 'import os', 'a = b = 1', 'a.b = 1', 'a += 1'):
        with pytest.raises(KoviltError, match='x, line 1: not a plain "name = value"'):
            read_plain_config(text, source='x')
    with pytest.raises(KoviltError, match='x, line 1'):
        read_plain_config('a = (', source='x')


def test_a_dumped_config_has_the_same_values_and_types():
    values = dict(
        a=1, b=-2.5, c=None, d='색', e=[1, dict(f=(1, 2), g=[dict(type='x')])], h={'not an identifier': True}, i=1e-4
    )
    read = read_plain_config(Config(values).pretty_text, source='x')
    assert read == values and isinstance(read['e'][1]['f'], tuple)
