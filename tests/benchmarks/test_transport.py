"""The benchmark of transport prints every kind of plan for both kinds of states."""

from argparse import Namespace

import pytest

from benchmarks import transport
from kovilt.errors import KoviltError


def test_it_prints_both_tables(capsys):
    transport.main(Namespace(pairs=2, width=16, rounds=1))
    lines = capsys.readouterr().out.splitlines()
    for kind in ('published', "kovilt, the paper's", 'kovilt, default', 'exact (ot.emd)'):
        assert sum(line.startswith(f'| {kind} |') for line in lines) == 2
    assert 'forward and backward' in lines[-1]


def test_a_silly_number_is_named():
    with pytest.raises(KoviltError, match='must be at least 1'):
        transport.main(Namespace(pairs=2, width=16, rounds=0))
