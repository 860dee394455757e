"""The comparison of ViLT's and METER's training: its table, its figures, and what it refuses."""

from __future__ import annotations

import json
import random
import sys

import pytest
import torch

from benchmarks import vilt_against_meter as tool
from benchmarks.vilt_against_meter import ROWS, Row, Trainer, fastest_batch, ratio
from kovilt.errors import KoviltError, run_cli


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
    assert [(one['kind'], one['questions']) for one in models] == [
        (kind, questions) for kind in ('ViLT', 'METER', 'METER') for questions in (1, 2)
    ]
    assert sum(line.startswith(('| ViLT |', '| METER |')) for line in out.splitlines()) == 6
    for one in models:
        assert one['batch'] == 4 and len(one['rates']) == 2 and min(one['rates']) > 0
        assert one['epoch_hours'] == pytest.approx(ROWS / one['samples_per_second'] / 3600)
        assert one['parameters'] > 1e6 and one['attention']
    flop = [one['forward_gflop'] for one in models]
    assert flop[2] < flop[4] and flop[3] < flop[5]  # larger images cost more
    assert flop[3] < flop[2] and flop[5] < flop[4]  # whose tower looks once for two questions


def test_the_ratio_is_that_of_the_rounds():
    vilt = Row('ViLT', '', 1, forward_gflop=2.0, rates=[10.0, 30.0, 20.0])
    meter = Row('METER', '', 1, rates=[1.0, 2.0, 10.0])
    assert ratio([vilt, Row('ViLT', '', 7, rates=[1.0, 1.0, 1.0]), meter], meter) == 10.0
    assert vilt.tflops == pytest.approx(3 * 2e9 * 20 / 1e12)


def test_images_keep_vilts_rule_and_its_loader_packs_them():
    trainer = Trainer('ViLT', None, 'tiny', 'cpu')
    assert set(trainer.grids(200, random.Random(0))) <= {(2, 2), (2, 3), (3, 2), (1, 3)}
    batch = trainer.batch(5, 2, random.Random(0))
    assert batch['image_index'].tolist() == [0, 0, 1, 1, 2]
    assert len(batch['patches']) == batch['grids'].prod(1).sum()
    assert trainer.seconds([batch]) > 0


@pytest.mark.parametrize(
    ('rates', 'best'),
    [
        ({8: 100, 16: 100, 32: 90, 64: 300, 128: None}, 64),  # a flat step is not the end
        ({8: 100, 16: 150, 32: 140, 64: None}, 16),
        ({8: 100, 16: None}, 8),  # does not fit
        ({8: 100, 16: 150, 32: 200, 64: 300, 128: None}, 64),
    ],
)
def test_the_batch_is_the_fastest_that_fits(monkeypatch, rates, best):
    trainer = Trainer('METER', 32, 'tiny', 'cpu')

    def seconds(batches: list[dict]) -> float:
        size = len(batches[0]['label'])
        if rates[size] is None:
            raise torch.cuda.OutOfMemoryError
        return size / rates[size]

    monkeypatch.setattr(trainer, 'seconds', seconds)
    assert fastest_batch(trainer, 2, most=256) == best
    assert fastest_batch(trainer, 2, most=8) == 8
    monkeypatch.setattr(trainer, 'seconds', lambda batches: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError()))
    with pytest.raises(KoviltError, match='METER at 32 x 32 pixels: not even 8 questions fit this GPU'):
        fastest_batch(trainer, 2, most=256)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--rounds', 0], '--rounds must be at least 1'),
        (['--sides', 0], '--sides must be at least 1'),
        (['--sides', 40], '--sides 40: not a multiple of the patch size 16'),
        (['--out', 'nowhere/ratio.json'], '--out nowhere/ratio.json: there is no folder nowhere'),
    ],
)
def test_a_silly_number_is_named(call, flags, message):
    code, _, err = call(*flags)
    assert code == 2 and message in err
