"""The benchmark of a training step prints both times and their ratio, for every kind of model."""

import pytest
from tiny_rooms import CONFIGS

from benchmarks import training_step


@pytest.mark.parametrize(('name', 'blocks'), [('pretrain', 4), ('vqa', 4), ('meter_vqa', 2)])
def test_it_prints_a_line(name, blocks, capsys):
    config = str(CONFIGS / 'rooms' / f'{name}.py')
    training_step.main(training_step.parse_args([config, '--texts', '4', '--steps', '1']))
    line = capsys.readouterr().out.splitlines()[-1]
    assert f'hidden size 192, {blocks} blocks' in line and 'float32' in line and 'ratio' in line


def test_a_batch_of_one_has_no_negatives(capsys):
    with pytest.raises(SystemExit):
        training_step.parse_args(['config.py', '--texts', '1'])
    assert 'argument --texts: must be at least 2' in capsys.readouterr().err
