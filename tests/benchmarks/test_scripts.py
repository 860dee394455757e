"""Every benchmark is a script that explains itself at once, from a checkout in which kovilt is not installed."""

import os
import subprocess
import sys
from collections import Counter
from importlib import import_module

import pytest

from benchmarks.fixtures import ROOT
from kovilt.cli.arguments import CommandParser
from kovilt.engine.config import load_config
from reproduction import __main__ as reproduction
from reproduction.scales import SCALES

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


def on_gpu(*arguments, **environment):
    command = ['bash', str(ROOT / 'benchmarks' / 'on_gpu.sh'), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Writes a script that on_gpu.sh calls in place of Python."""
    (file := tmp_path / 'bin' / 'python3').parent.mkdir()
    monkeypatch.setenv('PATH', str(file.parent), prepend=os.pathsep)

    def write(text):
        file.write_text(f'#!/bin/sh\n{text}\n')
        file.chmod(0o755)

    return write


@pytest.fixture
def calls(tmp_path, stub):
    """Runs all of on_gpu.sh with a python3 that does nothing; returns the arguments of each call."""
    stub('printf "%s\\t" "$@" >> "$CALLS"; echo >> "$CALLS"')

    def run(**environment):
        done = on_gpu(tmp_path / 'out', CALLS=str(tmp_path / 'calls'), **environment)
        assert done.returncode == 0, done.stdout
        return [line.split('\t')[:-1] for line in (tmp_path / 'calls').read_text('utf-8').splitlines()]

    return run


@pytest.mark.parametrize('settings', [{}, {'SHORT': '1'}, {'DEVICE': 'cpu'}], ids=str)
def test_on_gpu_calls_what_is_there_with_options_that_exist(settings, calls, monkeypatch):
    done = Counter()
    for _, module, *arguments in calls(**settings):
        done[module] += 1
        if module == 'kovilt':
            verb = import_module(f'kovilt.cli.{arguments[0]}')
            verb.add_arguments(parser := CommandParser(verb.__doc__))
            args = parser.parse_args(arguments[1:])
            if 'cfg_options' in args:
                load_config(args.config, args.cfg_options)
        elif module == 'reproduction':
            monkeypatch.setattr('sys.argv', [module, *arguments])
            args = reproduction.parse_args()
            assert reproduction.selected_tables(args) and (args.data, args.scale or 'small') in SCALES
        elif module != 'pytest':
            import_module(module).parse_args(arguments)
    benchmarks = ('against_hf', 'vilt_against_meter', 'prefix', 'scaling')
    expected = {f'benchmarks.{name}': 1 for name in benchmarks} | {'kovilt': 8, 'reproduction': 5}
    assert done == (expected if 'DEVICE' in settings else expected | {'pytest': 1})


def test_on_gpu_starts_nothing_after_its_total_time(tmp_path):
    done = on_gpu(tmp_path, 'meter', 'prefix', TOTAL='0')
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stdout.splitlines()[-1] == 'failed: meter (not started) prefix (not started)'


@pytest.mark.parametrize('arguments', [[], ['out', 'meters'], ['out', 'prefix', 'run']])
def test_on_gpu_names_its_sections(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = on_gpu(*arguments)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr.startswith('error: ') and 'sections: parity against_hf' in done.stderr


def test_what_on_gpu_runs_ends_with_it(tmp_path, stub):
    stub(f'trap "echo saved > {tmp_path}/saved; exit 1" TERM; echo runs > {tmp_path}/runs; sleep 60 & wait')
    command = ['bash', str(ROOT / 'benchmarks' / 'on_gpu.sh'), str(tmp_path / 'out'), 'prefix']
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / 'runs').exists():
            assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert (tmp_path / 'saved').exists()


def test_no_file_is_longer_than_300_lines():
    for file in (ROOT / 'benchmarks').iterdir():
        if file.is_file():
            assert len(file.read_text('utf-8').splitlines()) <= 300, file
