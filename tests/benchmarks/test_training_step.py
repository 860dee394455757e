"""The benchmark of a training step prints both times and their ratio, for every kind of model."""

from argparse import Namespace

import pytest
from tiny_rooms import CONFIGS

from benchmarks import training_step
from kovilt.errors import KoviltError


@pytest.mark.parametrize(('name', 'blocks'), [('pretrain', 4), ('vqa', 4), ('meter_vqa', 2)])
def test_it_prints_a_line(name, blocks, capsys):
    training_step.main(Namespace(config=str(CONFIGS / 'rooms' / f'{name}.py'), texts=4, steps=1))
    line = capsys.readouterr().out.splitlines()[-1]
    assert f'width 192, {blocks} blocks' in line and 'float32' in line and 'ratio' in line


def test_a_batch_of_one_has_no_partner():
    with pytest.raises(KoviltError, match='--texts must be at least 2'):
        training_step.main(Namespace(config=str(CONFIGS / 'rooms' / 'vqa.py'), texts=1, steps=1))
