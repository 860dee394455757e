"""The comparison of ViLT's and METER's training: its table, its figures, and what it refuses."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import vilt_against_meter as tool
from benchmarks import vilt_against_meter_trainer as training
from benchmarks.vilt_against_meter import Row, ratio
from benchmarks.vilt_against_meter_trainer import Trainer, find_fastest_batch
from kovilt.errors import KoviltError, run_cli
from reproduction import paper


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the tool on the CPU at its tiny size; returns exit code, stdout, stderr."""

    def call(*flags: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['tool', '--scale', 'tiny', '--device', 'cpu', *map(str, flags)])
        return run_cli(lambda: tool.main(tool.parse_args())), *capsys.readouterr()

    return call


def test_it_measures_all_models_on_as_many_questions(call, tmp_path):
    code, out, _ = call('--batch', 4, '--rounds', 2, '--questions', 1, 2, '--out', tmp_path / 'ratio.json')
    models = json.loads((tmp_path / 'ratio.json').read_text())['models']
    assert code == 0
    assert [(one['model'], one['questions']) for one in models] == [
        (model, questions) for model in ('ViLT', 'METER', 'METER') for questions in (1, 2)
    ]
    assert sum(line.startswith(('| ViLT |', '| METER |')) for line in out.splitlines()) == 6
    for one in models:
        assert one['batch'] == 4 and len(one['seconds']) == 2 and min(one['seconds']) > 0
        assert one['epoch_hours'] == pytest.approx(paper.TRAINING_QUESTIONS / one['samples_per_second'] / 3600)
        assert one['parameters'] > 1e6 and one['attention']
    flop = [one['forward_gflop'] for one in models]
    assert flop[2] < flop[4] and flop[3] < flop[5]  # larger images cost more
    assert flop[3] < flop[2] and flop[5] < flop[4]  # METER encodes an image once for two questions


def test_the_ratio_is_that_of_the_rounds():
    vilt = Row('ViLT', '', 1, forward_gflop=2.0, seconds=[0.1, 0.03, 0.05])
    meter = Row('METER', '', 1, seconds=[1.0, 0.5, 0.1])
    assert ratio([vilt, Row('ViLT', '', 7, seconds=[1.0, 1.0, 1.0]), meter], meter) == pytest.approx(10.0)
    assert vilt.rate == 20.0 and vilt.tflops == pytest.approx(3 * 2e9 * 20 / 1e12)


def test_images_keep_vilts_rule_and_share_the_questions():
    trainer = Trainer('ViLT', None, 'tiny', 'cpu')
    assert set(trainer.grid_shares) == {(2, 2), (2, 3), (3, 2), (1, 3)}
    batch = trainer.make_batch(5, 2, torch.Generator().manual_seed(0))
    assert batch['image_index'].tolist() == [0, 0, 1, 1, 2]
    assert len(batch['patches']) == batch['grids'].prod(1).sum()
    trainer.step(batch)


@pytest.mark.parametrize(
    ('rates', 'best'),
    [
        ({8: 100, 16: 100, 32: 90, 64: 300, 128: None}, 64),  # a slower size does not end the search
        ({8: 100, 16: 150, 32: 140, 64: None}, 16),
        ({8: 100, 16: None}, 8),  # does not fit
        ({8: 100, 16: 150, 32: 200, 64: 300, 128: None}, 64),
    ],
)
def test_the_batch_is_the_fastest_that_fits(monkeypatch, rates, best):
    trainer = Trainer('METER', 32, 'tiny', 'cpu')

    def time_steps(trainer: Trainer, batch: dict) -> float:
        size = len(batch['label'])
        if rates[size] is None:
            raise torch.cuda.OutOfMemoryError
        return size / rates[size]

    monkeypatch.setattr(training, 'time_steps', time_steps)
    assert find_fastest_batch(trainer, 2, largest=256) == best
    assert find_fastest_batch(trainer, 2, largest=8) == 8
    rates[8] = None
    with pytest.raises(KoviltError, match='METER at 32 x 32 pixels: not even 8 questions fit this GPU'):
        find_fastest_batch(trainer, 2, largest=256)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--sides', 40], '--sides 40: not a multiple of the patch size 16'),
        (['--out', 'nowhere/ratio.json'], '--out nowhere/ratio.json: there is no folder nowhere'),
    ],
)
def test_what_cannot_be_measured_is_named(call, flags, message):
    code, _, err = call(*flags)
    assert code == 2 and message in err
