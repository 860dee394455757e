"""Every benchmark is a script that explains itself at once, from a checkout in which kovilt is not installed."""

import os
import re
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


def test_on_gpu_calls_scripts_with_options_that_they_have():
    text = (ROOT / 'benchmarks' / 'on_gpu.sh').read_text('utf-8').replace('\\\n', ' ')
    calls = re.findall(r'python3 ((?:benchmarks|tools)/\S+\.py)(.*)', text)
    assert len(calls) >= 7
    for script, arguments in calls:
        command = [sys.executable, str(ROOT / script), '--help']
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for option in re.findall(r'(?<= )--[a-z-]+', arguments.replace(':+', ' ')):
            assert f'{option} ' in shown, f'{script} {option}'


def test_no_file_is_longer_than_300_lines():
    for file in (ROOT / 'benchmarks').iterdir():
        if file.is_file():
            assert len(file.read_text('utf-8').splitlines()) <= 300, file
