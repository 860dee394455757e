"""--help needs no torch, and the benchmark of start-up measures processes."""

import json
import subprocess
import sys

import pytest

from benchmarks import startup
from kovilt.errors import KoviltError

HEAVY = ('torch', 'transformers', 'mmcv', 'mmpretrain', 'matplotlib', 'ot')
RUN_ALL = f"""
import contextlib, io, json, runpy, sys
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv, out, err = arguments, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(arguments[0], run_name='__main__')
        except SystemExit as end:
            code = end.code
    loaded = [module for module in {HEAVY} if module in sys.modules]
    print(json.dumps([name, code, out.getvalue(), err.getvalue(), loaded]))
"""


def test_help_needs_no_torch():
    calls = startup.helps()
    done = subprocess.run(
        [sys.executable, '-c', RUN_ALL, json.dumps(calls)], cwd=startup.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in found] == list(calls)
    for name, code, out, err, loaded in found:
        assert code == 0 and out.startswith('usage'), (name, err)
        assert not loaded, name


def test_processes_are_timed_in_turn():
    taken = startup.time_processes({'nothing': ['-c', ''], 'a line': ['-c', 'print()']}, rounds=2)
    assert {name: len(rounds) for name, rounds in taken.items()} == {'nothing': 2, 'a line': 2}
    assert all(0 < found.cpu < 60 and 0 < found.wall < 60 for rounds in taken.values() for found in rounds)


def test_beside_each_stands_what_it_takes_beyond_torch_in_the_same_round(monkeypatch, capsys):
    def time_processes(timed, rounds):
        assert rounds == 3 and timed[startup.TORCH] == ['-c', 'import torch']
        assert timed['a first answer'][:3] == ['tools/predict.py', '/model', '/room.jpg']
        torch = [startup.Taken(cpu, 2 * cpu) for cpu in (1.0, 2.0, 6.0)]
        return {
            name: torch if name == startup.TORCH else [startup.Taken(c + 0.5, w - 1) for c, w in torch]
            for name in timed
        }

    monkeypatch.setattr(startup, 'time_processes', time_processes)
    startup.main(startup.parse_args(['--rounds', '3', '--model', '/model', '--image', '/room.jpg']))
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines()[4:]]
    assert rows[0] == ['| import torch', '2.00', '4.00', '+0.00', '+0.00 |']
    assert rows[-1] == ['| a first answer', '2.50', '3.00', '+0.50', '-1.00 |'] and len(rows) == 5


def test_what_cannot_be_timed_is_named():
    for arguments, message in ((['--rounds', '0'], 'at least one'), (['--model', 'x'], 'give both')):
        with pytest.raises(KoviltError, match=message):
            startup.main(startup.parse_args(arguments))
    with pytest.raises(KoviltError, match='broken: exit code 1: ZeroDivisionError: division by zero'):
        startup.time_processes({'broken': ['-c', '1 / 0']}, rounds=1)
