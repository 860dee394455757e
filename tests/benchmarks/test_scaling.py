"""The benchmark of growing cost: its laws are fitted to what was measured, and every sweep gets its table and plot."""

import pytest
from tiny_models import tiny_model

from benchmarks import scaling
from benchmarks.work import ANSWERS, VOCABULARY
from kovilt.errors import KoviltError


@pytest.fixture
def tiny(monkeypatch):
    def model(device='cpu', **encoder):
        encoder = dict(vocab_size=VOCABULARY, patch_size=32, image_size=64) | encoder
        return tiny_model(answers=[str(number) for number in range(ANSWERS)], **encoder).to(device)

    monkeypatch.setattr(scaling, 'base_model', model)
    monkeypatch.setattr('benchmarks.work.base_model', model)
    for name, sizes in dict(SIDES=(2, 3), TEXTS=(5, 9), QUESTIONS=(1, 2), ROWS=(200, 400)).items():
        monkeypatch.setattr(scaling, name, sizes)


def test_every_sweep_has_a_table_and_its_panels(tiny, tmp_path, capsys):
    scaling.main(scaling.parse_args(['--rounds', '1', '--plot', str(tmp_path / 'new' / 'plot.png')]))
    said = capsys.readouterr().out
    assert all(said.count(f'| {name} | ms | by the law | MB | by the law |') == 1 for name in scaling.NAMES.values())
    assert said.count('| grows with the power |') == len(scaling.NAMES)
    assert (tmp_path / 'new' / 'plot.png').stat().st_size > 10_000


def test_a_law_finds_its_own_numbers():
    law = scaling.Law.through([1, 2, 4, 8], [5, 7, 11, 19])
    assert (law.fixed, law.price) == pytest.approx((3, 2)) and law(10) == pytest.approx(23)
    assert scaling.Law.through([1, 2, 4], [0.5, 1.5, 3.5]).fixed == 0  # a negative fixed cost is none


def test_memory_that_a_step_takes_is_seen(tiny):
    def run(size):
        return lambda: bytearray(size)

    size = 1 << 26
    freed = [bytearray(100_000) for _ in range(2 * size // 100_000)]  # small enough for malloc to keep, once freed
    del freed[:-1]
    few, many = (scaling._peak(run(times * size), 'cpu') for times in (1, 2))
    assert few > 0.95 * size and 0.9 * size < many - few < 1.1 * size


def test_a_silly_number_is_named():
    with pytest.raises(KoviltError, match='must be at least 1'):
        scaling.main(scaling.parse_args(['--rounds', '0']))
