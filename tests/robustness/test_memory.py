"""Too little memory, wherever it runs out, is one line with what was computed and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_rooms import tiny_config

from kovilt.datasets.pairs import PairDataset
from kovilt.models import ViLTForVQA
from tests.support.memory_limit import memory_limit

TOO_MUCH = 10**10  # floats; Linux promises as much unless the memory is limited


def one_line(error: str) -> str:
    """The line of an error that is the only one."""
    lines = [line for line in error.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and 'Traceback' not in error
    return lines[0]


@pytest.fixture
def greedy_model(monkeypatch):
    """A model whose predictions need more memory than there is."""

    def answer(self, batch, *rest, **options):
        torch.empty(TOO_MUCH)
        raise AssertionError('the memory was not limited')

    monkeypatch.setattr(ViLTForVQA, 'predict', answer)
    monkeypatch.setattr(ViLTForVQA, 'answer', answer)


def test_an_evaluation_names_its_batch(run, greedy_model, call):
    with memory_limit(1000):
        code, _, error = call('test', run / 'tiny.py', run / 'run' / 'iter_2.pth', '--work-dir', run / 'test')
    assert code == 1 and not (run / 'test' / 'metrics.json').exists()
    size = 'error: out of memory in a batch of 1 x 32 pairs with '
    assert one_line(error).startswith(size) and 'lower val_dataloader.batch_size' in error


def test_a_prediction_names_its_batch(run, rooms, greedy_model, call):
    image = min((rooms / 'captions').glob('*/*.jpg'))
    with memory_limit(1000):
        code, _, error = call('predict', run / 'run' / 'iter_2.pth', image, '소파가 있어요?', '--device', 'cpu')
    assert code == 1 and one_line(error).startswith('error: out of memory in a batch of 1 x 1 pairs with ')
    assert 'lower batch_size (--batch-size)' in error


def test_a_training_is_saved_when_reading_needs_too_much(run, rooms, tmp_path, call, monkeypatch):
    read, count = PairDataset.__getitems__, 0

    def read_greedily(self, rows):
        nonlocal count
        count += 1
        if count == 3:
            np.empty(TOO_MUCH, np.float32)
        return read(self, rows)

    monkeypatch.setattr(PairDataset, '__getitems__', read_greedily)
    config = tiny_config(tmp_path / 'tiny.py', steps=4, limit=32, save_every=10)
    with memory_limit(1000):
        code, _, error = call('train', config, '--work-dir', tmp_path / 'run')
    line = one_line(error)
    assert code == 1 and line.startswith('error: out of memory while data was read or written; use fewer worker')
    assert 'the run is saved up to step 2 in' in line and (tmp_path / 'run' / 'iter_2.pth').is_file()
