"""The benchmark of the data path measures every variant, and refuses pixels that are far from Pillow's."""

import re

import numpy as np
import pytest

from benchmarks import data_path
from kovilt.datasets.transforms import resize
from kovilt.errors import KoviltError

SMALL = ['--images', '1', '--rounds', '1', '--workers', '0', '--batch-size', '4']


def run(*options: str) -> None:
    data_path.main(data_path.parse_args([*SMALL, *options]))


def test_every_section_prints_its_table(capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'1 images, 1\d\d KB each, 7 questions on each', lines[1])
    assert sum(bool(re.match(r"\| ViLT's transform \| [\d.]+ \| \d+ \| 1\.00 \|  \|$", line)) for line in lines) == 1
    assert sum(bool(re.match(r'\| kovilt \| [\d.]+ \| \d+ \| \d+\.\d\d \| [012] \|$', line)) for line in lines) == 1
    assert sum(line.endswith('% |') for line in lines) == 6  # epochs


def test_pixels_that_are_far_from_pillows_are_an_error(monkeypatch):
    right = resize.resize_bicubic
    monkeypatch.setattr(resize, 'resize_bicubic', lambda pixels, size: np.clip(right(pixels, size), 3, 255))
    with pytest.raises(KoviltError, match='pixels differ from Pillow by 3 grey levels, more than 2'):
        run('--only', 'images')
