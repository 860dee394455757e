"""The benchmark of a training step prints both times and their ratio, for every kind of model."""

import re

import pytest
from tiny_rooms import CONFIGS

from benchmarks import training_step
from benchmarks.fixtures import ROOT
from kovilt.errors import KoviltError


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


def test_this_version_is_compared_with_another_checkout(capsys):
    config = str(CONFIGS / 'rooms' / 'vqa.py')
    arguments = [config, '--texts', '4', '--steps', '2', '--threads', '1', '--against', str(ROOT)]
    training_step.main(training_step.parse_args(arguments))
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r'this version \d+ ms a step, ratio \d+\.\d+; losses of .* are 0.0000 apart', line)


def test_a_folder_without_kovilt_is_one_line(tmp_path):
    arguments = [str(CONFIGS / 'rooms' / 'vqa.py'), '--texts', '4', '--steps', '1', '--against', str(tmp_path)]
    with pytest.raises(KoviltError, match='no checkout of kovilt'):
        training_step.main(training_step.parse_args(arguments))
