"""The benchmark of growing cost: its laws are fitted to the measurements, and every sweep gets its table and plot."""

import pytest
from tiny_models import tiny_model

from benchmarks import fixtures, scaling
from benchmarks.scaling_laws import Law


@pytest.fixture
def tiny(monkeypatch):
    def model(device='cpu', **encoder):
        encoder = dict(vocab_size=fixtures.VOCAB_SIZE, patch_size=32, image_size=64) | encoder
        return tiny_model(answers=[str(number) for number in range(fixtures.NUM_ANSWERS)], **encoder).to(device)

    monkeypatch.setattr(scaling, 'base_model', model)
    monkeypatch.setattr(fixtures, 'base_model', model)
    for name, sizes in dict(SIDES=(2, 3), TEXTS=(5, 9), QUESTIONS=(1, 2), ROWS=(200, 400)).items():
        monkeypatch.setattr(scaling, name, sizes)


def test_every_sweep_has_a_table_and_its_panels(tiny, tmp_path, capsys):
    scaling.main(scaling.parse_args(['--rounds', '1', '--plot', str(tmp_path / 'new' / 'plot.png')]))
    printed = capsys.readouterr().out
    for label in scaling.LABELS.values():
        assert printed.count(f'| {label} | ms | by the law | MB | by the law |') == 1
    assert printed.count('| grows with the power |') == len(scaling.LABELS)
    assert (tmp_path / 'new' / 'plot.png').stat().st_size > 10_000


def test_a_law_finds_its_own_numbers():
    law = Law.fit([1, 2, 4, 8], [5, 7, 11, 19])
    assert (law.fixed, law.price) == pytest.approx((3, 2)) and law(10) == pytest.approx(23)
    assert Law.fit([1, 2, 4], [0.5, 1.5, 3.5]).fixed == 0  # the fixed cost is never negative
