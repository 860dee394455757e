"""Every benchmark is a script that explains itself at once, from a checkout in which kovilt is not installed."""

import os
import subprocess
import sys

import pytest

from benchmarks.fixtures import ROOT

SCRIPTS = sorted(
    file.name for file in (ROOT / 'benchmarks').glob('*.py') if "if __name__ == '__main__':" in file.read_text('utf-8')
)
HEAVY = ('torch', 'transformers', 'mmengine', 'matplotlib')
RUN = f"""
import runpy, sys
sys.argv, sys.path[0] = sys.argv[1:], sys.argv[1].rpartition('/')[0]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    assert not [name for name in {HEAVY} if name in sys.modules]
"""


def run(script, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    command = [sys.executable, '-c', RUN, str(ROOT / 'benchmarks' / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_needs_neither_torch_nor_an_installation(script, tmp_path):
    done = run(script, '--help', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'python benchmarks/{script}' in done.stdout  # the command stands in the docstring


def test_a_wrong_number_is_one_line(tmp_path):
    done = run('int8.py', '--rounds', '0', cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == 'error: argument --rounds: must be at least 1, not 0\n'


def test_no_file_is_longer_than_300_lines():
    for file in (ROOT / 'benchmarks').iterdir():
        if file.is_file():
            assert len(file.read_text('utf-8').splitlines()) <= 300, file
