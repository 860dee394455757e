"""The benchmark of start-up times processes."""

import pytest

from benchmarks import startup
from kovilt.errors import KoviltError


def test_beside_each_command_stands_its_time_less_that_of_torch_in_the_same_round(monkeypatch, capsys):
    def time_in_turn(variants, *, rounds, clock):
        assert rounds == 3 and list(variants)[0] == startup.TORCH
        torch = [1.0, 2.0, 6.0]
        return {name: torch if name == startup.TORCH else [s - 0.5 for s in torch] for name in variants}

    monkeypatch.setattr(startup, 'time_in_turn', time_in_turn)
    startup.main(startup.parse_args(['--rounds', '3', '--model', '/model', '--image', '/room.jpg']))
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines()[4:]]
    assert rows[0] == ['| import torch', '2.00', '+0.00 |']
    assert rows[-1] == ['| a first answer', '1.50', '-0.50 |'] and len(rows) == 5


def test_a_command_that_fails_is_an_error():
    startup.run_command('works', ['-c', ''])()
    with pytest.raises(KoviltError, match='broken: exit code 1: ZeroDivisionError: division by zero'):
        startup.run_command('broken', ['-c', '1 / 0'])()
    with pytest.raises(KoviltError, match='give both'):
        startup.main(startup.parse_args(['--model', 'x']))
