"""Environment variables and ports of several processes: a mistake is one line, before any process waits for another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kovilt.engine.distributed import check_launcher, join_processes, set_variables_from_slurm
from kovilt.errors import KoviltError

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
        with pytest.raises(KoviltError, match=f'MASTER_PORT {port}: .*; set PORT to a free one'):
            join_processes()


@pytest.fixture
def launch(tmp_path):
    """Runs a script whose interpreter prints its arguments in place of torchrun; returns exit code, stdout, stderr."""
    interpreter = tmp_path / 'python'
    interpreter.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n')
    interpreter.chmod(0o755)

    def launch(*arguments: str, **environment: str) -> tuple[int, str, str]:
        known = {name: value for name, value in os.environ.items() if name not in ('PORT', 'NNODES', 'NODE_RANK')}
        done = subprocess.run(
            ['bash', str(TOOLS / 'dist_train.sh'), *arguments],
            capture_output=True,
            text=True,
            env={**known, 'PYTHON': str(interpreter), **environment},
        )
        return done.returncode, done.stdout, done.stderr

    return launch


def test_one_machine_takes_a_free_port_and_several_the_given_one(launch):
    code, asked, _ = launch('own.py', '4', '--amp')
    assert code == 0 and '--standalone' in asked and 'master-port' not in asked
    assert '--nproc-per-node=4 --max-restarts=0 ' in asked
    assert launch('own.py', '9999')[2] == f'warning: 9999 processes share the {os.cpu_count()} CPUs of this machine\n'
    with socket.socket() as other:  # only the first machine needs the port
        other.bind(('', 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, asked, _ = launch('own.py', '4', NNODES='2', NODE_RANK='1', MASTER_ADDR='first', PORT=port)
        assert code == 0 and f'--nnodes=2 --node-rank=1 --master-addr=first --master-port={port}' in asked
        for several in ({}, {'NNODES': '2'}):
            code, asked, error = launch('own.py', '4', PORT=port, **several)
            assert code == 2 and not asked and error.count('\n') == 1
            assert error.startswith(f'error: PORT {port} is taken on this machine; set PORT to a free one')


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
    ],
)
def test_numbers_of_a_launch_that_are_none(launch, processes, environment, due):
    code, asked, error = launch('own.py', processes, **environment)
    assert code == 2 and not asked and error.count('\n') == 1 and error.startswith('error: ') and due in error
