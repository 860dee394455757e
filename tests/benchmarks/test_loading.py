"""The benchmark of loading makes batches of a config's own training data."""

import re

from tiny_rooms import tiny_config

from benchmarks import loading


def test_it_prints_rates(rooms, tmp_path, capsys):
    config = tiny_config(tmp_path / 'files.py', steps=1)
    loading.main(loading.parse_args([str(config), '--seconds', '0.01']))
    assert re.fullmatch(r'[\d,]+ texts/s, [\d,]+ images/s, \d+\.\d\d GB/s', capsys.readouterr().out.splitlines()[-1])
