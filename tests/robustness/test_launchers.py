"""Environment variables and ports of several processes: a mistake is one line, before any process waits for another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kovilt.cli.launch import run_torchrun, torchrun_arguments
from kovilt.engine.distributed import check_launcher, join_processes, set_variables_from_slurm
from kovilt.errors import KoviltError, RunFault
from tests.tools.test_dist import free_port

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
TORCHRUN = {'RANK': '0', 'WORLD_SIZE': '2', 'LOCAL_RANK': '0', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '29500'}
SLURM = {'SLURM_PROCID': '0', 'SLURM_NTASKS': '2', 'SLURM_LOCALID': '0', 'SLURM_NODELIST': 'here'}


@pytest.mark.parametrize('text', ['x', '', '1.5', '0x10', 'nan', '-1', '٣', '1e3', str(10**30)])
@pytest.mark.parametrize(
    ('launcher', 'name'),
    [('pytorch', name) for name in TORCHRUN if name != 'MASTER_ADDR']
    + [('slurm', name) for name in SLURM if name != 'SLURM_NODELIST'],
)
def test_variables_that_are_no_such_number_are_named(monkeypatch, launcher, name, text):
    for key, value in {**TORCHRUN, **SLURM, name: text}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(KoviltError, match=name) as error:
        check_launcher(launcher)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('launcher', 'variables'), [('pytorch', TORCHRUN), ('slurm', SLURM)])
def test_each_missing_variable_is_named(monkeypatch, launcher, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_launcher(launcher)
    for name in variables:
        with monkeypatch.context() as patch:
            patch.delenv(name)
            with pytest.raises(KoviltError, match=f'--launcher {launcher}.*{name} is not set; start the program with'):
                check_launcher(launcher)
    first, processes = list(variables)[:2]
    monkeypatch.setenv(first, '2')
    with pytest.raises(KoviltError, match=f'{first} is 2; it must be below {processes}, 2'):
        check_launcher(launcher)
    check_launcher('none')


def test_slurm_gives_every_job_a_port_of_its_own(monkeypatch, tmp_path):
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho node7\necho node8\n')
    (tmp_path / 'scontrol').chmod(0o755)
    for name in TORCHRUN:
        monkeypatch.setenv(name, 'to be restored')
        monkeypatch.delenv(name)
    for name, value in {**SLURM, 'SLURM_JOB_ID': '4123456', 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}.items():
        monkeypatch.setenv(name, value)
    set_variables_from_slurm()
    assert [os.environ[name] for name in TORCHRUN] == ['0', '2', '0', 'node7', '23456']
    monkeypatch.setenv('PATH', str(tmp_path / 'none'))
    with pytest.raises(KoviltError, match='scontrol does not name the machines of here'):
        set_variables_from_slurm()


def test_a_taken_port_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = str(other.getsockname()[1])
        for name, value in {**TORCHRUN, 'WORLD_SIZE': '1', 'MASTER_PORT': port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(KoviltError, match=f'MASTER_PORT {port}: .* set PORT to a free one'):
            join_processes()


@pytest.fixture
def launch(monkeypatch):
    """Sets the environment variables of a launch and returns the arguments that torchrun would get."""
    for name in ('PORT', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'MAX_RESTARTS', 'JOIN_TIMEOUT'):
        monkeypatch.delenv(name, raising=False)

    def launch(processes: str, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return ' '.join(torchrun_arguments(processes, ['train', 'own.py', '--amp']))

    return launch


def test_one_machine_takes_a_free_port_and_several_the_given_one(launch):
    asked = launch('4')
    assert asked.startswith('--standalone ') and 'rdzv' not in asked
    assert '--nproc-per-node=4 --max-restarts=0 ' in asked and asked.endswith(' --module kovilt train own.py --amp')
    with socket.socket() as other:  # only the first machine needs the port
        other.bind(('', 0))
        other.listen()
        port = str(other.getsockname()[1])
        asked = launch('4', NNODES='2', NODE_RANK='1', MASTER_ADDR='first', PORT=port, JOIN_TIMEOUT='7')
        assert f'--nnodes=2 --rdzv-backend=c10d --rdzv-id=kovilt --rdzv-endpoint=first:{port} ' in asked
        assert '--rdzv-conf=is_host=0,join_timeout=7,read_timeout=7 ' in asked
        for several in ('1', '2'):
            with pytest.raises(KoviltError, match=f'^PORT {port} is taken on this machine; set PORT to a free one'):
                launch('4', NNODES=several, NODE_RANK='0')


def test_machines_are_numbered_by_their_node_rank(launch):
    """torchrun numbers them in the order of --local-addr."""
    found = [launch('1', NNODES='30', NODE_RANK=str(node), MASTER_ADDR='vm-é7') for node in (0, 2, 10)]
    addresses = [next(part for part in one.split() if part.startswith('--local-addr')) for one in found]
    assert addresses == sorted(addresses) and addresses[0] == '--local-addr=vm-é7'


@pytest.mark.parametrize(
    ('processes', 'environment', 'due'),
    [
        ('0', {}, "N is '0'"),
        ('x', {}, "N is 'x'"),
        ('-2', {}, "N is '-2'"),
        ('2; ls', {}, "N is '2; ls'"),
        ('2', {'NNODES': 'two'}, "NNODES is 'two'"),
        ('2', {'NNODES': '2', 'NODE_RANK': '2'}, "NODE_RANK is '2'; it must be a number from 0 to 1"),
        ('2', {'NODE_RANK': 'x'}, "NODE_RANK is 'x'"),
        ('2', {'PORT': '99999999'}, "PORT is '99999999'"),
        ('2', {'PORT': '99999'}, "PORT is '99999'"),
        ('2', {'MAX_RESTARTS': '-1'}, "MAX_RESTARTS is '-1'"),
        ('2', {'JOIN_TIMEOUT': '0'}, "JOIN_TIMEOUT is '0'"),
    ],
)
def test_numbers_of_a_launch_that_are_none(launch, processes, environment, due):
    with pytest.raises(KoviltError) as error:
        launch(processes, **environment)
    assert str(error.value).startswith(due) and '\n' not in str(error.value)


def test_a_bad_launch_is_one_line_and_code_2():
    done = subprocess.run(
        ['bash', TOOLS / 'dist_train.sh', 'own.py', '2'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHON': sys.executable, 'NNODES': 'two'},
    )
    due = "error: NNODES is 'two'; it must be a number of at least 1\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, '', due)


@pytest.mark.parametrize('node', ['0', '1'])
def test_machines_that_do_not_find_each_other_are_one_line(monkeypatch, node):
    """The first waits for the second, the second for an address where nobody listens."""
    port = free_port()
    for name, value in {'NNODES': '2', 'NODE_RANK': node, 'PORT': port, 'JOIN_TIMEOUT': '1'}.items():
        monkeypatch.setenv(name, value)
    due = f'^the 2 machines did not find each other at 127.0.0.1:{port} within 1 s.* each with its NODE_RANK'
    with pytest.raises(RunFault, match=due):
        run_torchrun(torchrun_arguments('1', ['train', 'own.py']))


@pytest.mark.parametrize(('codes', 'starts'), [('2', 1), ('1', 3), ('1 2', 2), ('1 0', 2)])
def test_bad_input_is_not_tried_again(monkeypatch, tmp_path, codes, starts):
    """The processes end with one code after the other, and with the last from then on."""
    script, log = tmp_path / 'ends.py', tmp_path / 'log'
    script.write_text(
        f'import sys\nfile = open({str(log)!r}, "a+")\nfile.seek(0)\nn = len(file.read())\nfile.write("x")\n'
        f'file.close()\ncodes = {codes.split()}\nsys.exit(int(codes[min(n, len(codes) - 1)]))\n'
    )
    monkeypatch.setenv('TORCHELASTIC_SIGNALS_TO_HANDLE', '')  # to be set back
    before = signal.getsignal(signal.SIGUSR2)
    options = ['--standalone', '--local-addr=127.0.0.1', '--max-restarts=2', '--signals-to-handle=SIGUSR2']
    try:
        assert run_torchrun([*options, '--monitor-interval=0.01', str(script)]) == int(codes.split()[-1])
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(log.read_text()) == starts
