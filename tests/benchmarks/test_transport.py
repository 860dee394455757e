"""The benchmark of transport prints every kind of plan for both kinds of states."""

from benchmarks import transport


def test_it_prints_both_tables(capsys):
    transport.main(transport.parse_args(['--pairs', '2', '--width', '16', '--rounds', '1']))
    lines = capsys.readouterr().out.splitlines()
    for kind in ('published', "kovilt, the paper's", 'kovilt, small beta', 'exact (ot.emd)'):
        assert sum(line.startswith(f'| {kind} |') for line in lines) == 2
    assert 'forward and backward' in lines[-1]
