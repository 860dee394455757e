"""Every benchmark is a script that explains itself at once, from a checkout in which kovilt is not installed."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.fixtures import ROOT

SCRIPTS = sorted(
    file.stem for file in (ROOT / 'benchmarks').glob('*.py') if "if __name__ == '__main__':" in file.read_text('utf-8')
)
HEAVY = ('torch', 'transformers', 'mmengine', 'matplotlib')
RUN = f"""
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)
finally:
    assert not [name for name in {HEAVY} if name in sys.modules]
"""


def run(script, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    command = [sys.executable, '-c', RUN, f'benchmarks.{script}', *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_needs_neither_torch_nor_an_installation(script):
    done = run(script, '--help')
    assert done.returncode == 0, done.stderr
    assert f'python -m benchmarks.{script}' in done.stdout  # the command stands in the docstring


def test_a_wrong_number_is_one_line():
    done = run('precision', '--rounds', '0')
    assert done.returncode == 2 and done.stderr == 'error: argument --rounds: must be at least 1, not 0\n'


def test_on_gpu_calls_scripts_with_options_that_they_have():
    text = (ROOT / 'benchmarks' / 'on_gpu.sh').read_text('utf-8').replace('\\\n', ' ')
    calls = re.findall(r'python3 -m (kovilt \S+|benchmarks\.\w+|reproduction)(.*)', text)
    assert len(calls) >= 7
    for script, arguments in calls:
        command = [sys.executable, '-m', *script.split(), '--help']
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for option in re.findall(r'(?<= )--[a-z-]+', arguments.replace(':+', ' ')):
            assert f'{option} ' in shown, f'{script} {option}'


def test_on_gpu_starts_nothing_after_its_total_time(tmp_path):
    environment = os.environ | {'TOTAL': '0'}
    command = ['bash', str(ROOT / 'benchmarks' / 'on_gpu.sh'), str(tmp_path), 'meter', 'prefix']
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stdout.splitlines()[-1] == 'failed: meter (not started) prefix (not started)'


def test_no_file_is_longer_than_300_lines():
    for file in (ROOT / 'benchmarks').iterdir():
        if file.is_file():
            assert len(file.read_text('utf-8').splitlines()) <= 300, file
