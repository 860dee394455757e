"""The benchmark of the data path measures every way, and refuses pixels that are far from Pillow's."""

import re

import numpy as np
import pytest

from benchmarks import data_path
from kovilt.datasets.transforms import resize
from kovilt.errors import KoviltError

SMALL = ['--images', '1', '--rounds', '1', '--questions', '300', '--workers', '0', '--batch-size', '4']


def run(*options: str) -> None:
    data_path.main(data_path.parse_args([*SMALL, *options]))


def test_every_part_prints_its_table(capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'1 images, 1\d\d KB each, 7 questions on each', lines[0])
    (vilt,) = [line for line in lines if re.match(r'ViLT +[\d,]+ +\d+ +1\.00$', line)]
    arrays = [line for line in lines if re.match(r'kovilt +[\d,]+ +\d+ +\d+\.\d\d +[012]$', line)]
    epochs = [line for line in lines if re.search(r'\d+\.\d% of 3,000/s$', line)]
    texts = [line for line in lines if re.search(r'\d+\.\d s$', line)]
    assert (len(arrays), len(epochs), len(texts)) == (1, 6, 3)


def test_pixels_that_are_far_from_pillows_are_an_error(monkeypatch):
    right = resize.resize_bicubic
    monkeypatch.setattr(resize, 'resize_bicubic', lambda pixels, size: np.clip(right(pixels, size), 3, 255))
    with pytest.raises(KoviltError, match='pixels differ from Pillow by up to 3 grey levels; 2 are allowed'):
        run('--only', 'images')


def test_nothing_of_a_kind_cannot_be_measured(capsys):
    with pytest.raises(SystemExit):
        data_path.parse_args(['--images', '0'])
    assert '--images must be at least 1, not 0' in capsys.readouterr().err
