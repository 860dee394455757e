"""Several processes, on one machine or two, do what one process does. Everything here runs on CPUs over gloo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_rooms import tiny_config

from benchmarks.faults import processes
from kovilt.apis import export_checkpoint
from kovilt.cli.main import main

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
ENVIRONMENT = {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}


def start(tool: str, *arguments, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        ['bash', str(TOOLS / tool), *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT, **environment},
    )


def wait(*launched: subprocess.Popen) -> None:
    for process in launched:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output[-3000:]


def free_port() -> str:
    return str(processes.free_port())


def lines(work: Path, mode: str) -> list[dict]:
    found = [json.loads(line) for line in (work / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    return [line for line in found if line['mode'] == mode]


@pytest.fixture(scope='module')
def one(rooms, tmp_path_factory) -> Path:
    """A run of one process, with 16 pairs a step."""
    folder = tmp_path_factory.mktemp('one')
    config = tiny_config(folder / 'tiny.py', steps=4, limit=40)
    assert main(['train', str(config), '--work-dir', str(folder / 'work')]) == 0
    return folder


HALF = ('--cfg-options', 'train_dataloader.batch_size=8', 'val_dataloader.batch_size=7')


def assert_same_run(work: Path, one: Path) -> None:
    assert_same_steps(work, one)
    assert lines(work, 'epoch')[0]['processes'] == 2
    assert len(list(work.glob('*/*.log'))) == 1  # rank 0 alone writes


def assert_same_metrics(our: dict, their: dict) -> None:
    """Each question counts once. Sums in another order change the last digits of probabilities, and two metrics."""
    for name in ('ece', 'aurc'):
        assert our.pop(name) == pytest.approx(their.pop(name), abs=1e-3), name
    assert our == their


def assert_same_steps(work: Path, one: Path) -> None:
    ours, theirs = lines(work, 'train'), lines(one / 'work', 'train')
    assert [line['step'] for line in ours] == [1, 2, 3, 4]
    for our, their in zip(ours, theirs, strict=True):
        for name in ('loss', 'vqa_accuracy', 'grad_norm', 'lr/encoder.decay'):
            assert our[name] == pytest.approx(their[name], rel=1e-5, abs=1e-7), name
    drop = ('time',)
    our, their = ({k: v for k, v in lines(place, 'val')[0].items() if k not in drop} for place in (work, one / 'work'))
    assert_same_metrics(our, their)


NO_HANGUL = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}  # a locale whose file names are ASCII


def test_two_processes_with_accumulation_equal_one(one, tmp_path):
    work = tmp_path / '결과 work'
    parts = (*HALF, 'train_dataloader.collate_fn.micro_batches=2')
    options = ('--logger', 'tensorboard', *parts)
    wait(start('dist_train.sh', one / 'tiny.py', 2, '--work-dir', work, *options, **NO_HANGUL, KOVILT_NO_REPORT=''))
    assert_same_run(work, one)
    assert 'Missing · 빠진' not in (work / 'report.html').read_text(encoding='utf-8')  # rank 0 has written it
    predictions = (work / 'predictions.jsonl').read_text(encoding='utf-8').splitlines()
    assert len({json.loads(line)['question_id'] for line in predictions}) == lines(work, 'val')[0]['questions']
    assert len(list((work / 'tensorboard').iterdir())) == 1


def hurt(tmp_path: Path, one: Path, *faults: tuple[str, int]) -> Path:
    """The config of `one`, of which rank 1 gets signals, each before a step and once."""
    config = tmp_path / 'tiny.py'
    hooks = [
        f"dict(type='SignalHook', step={step}, rank=1, name={name!r}, done={str(tmp_path / name)!r})"
        for name, step in faults
    ]
    text = (one / 'tiny.py').read_text('utf-8')
    config.write_text(
        f"{text}\ncustom_imports = dict(imports=['faults'])\ncustom_hooks = [{', '.join(hooks)}]\n", 'utf-8'
    )
    return config


PATH_OF_FAULTS = os.pathsep.join([str(TOOLS.parent / 'tests' / 'support'), os.environ.get('PYTHONPATH', '')])


def test_killed_and_stopped_processes_are_started_again_and_continue(one, tmp_path):
    """No step is lost or repeated in the record, which is that of a run without faults."""
    options = ('--work-dir', tmp_path / 'work', *HALF, 'env_cfg.dist_cfg.timeout=10')
    config = hurt(tmp_path, one, ('SIGKILL', 2), ('SIGSTOP', 4))
    process = start('dist_train.sh', config, 2, *options, MAX_RESTARTS='2', PYTHONPATH=PATH_OF_FAULTS)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output[-3000:]
    assert len(list((tmp_path / 'work').glob('*/*.log'))) == 3
    assert_same_steps(tmp_path / 'work', one)
    assert 'error: another process has ended, and rank 0 cannot go on without it' in output
    stopped = re.search(
        r'error: rank 1 \(process (\d+) on .*\) does not answer; the last step that all .* is 3, ', output
    )
    assert stopped and not Path('/proc', stopped[1]).exists() and 'Traceback' not in output


def test_a_signal_to_one_process_saves_and_ends_all_with_code_75(one, tmp_path):
    options = ('--work-dir', tmp_path / 'work', *HALF)
    config = hurt(tmp_path, one, ('SIGUSR1', 3))
    process = start('dist_train.sh', config, 2, *options, MAX_RESTARTS='1', PYTHONPATH=PATH_OF_FAULTS)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 75 and 'the run is saved up to step 3' in output and 'Traceback' not in output
    wait(start('dist_train.sh', config, 2, *options, '--resume', PYTHONPATH=PATH_OF_FAULTS))
    assert_same_steps(tmp_path / 'work', one)


def children_of(process: int) -> list[int]:
    return [int(text) for text in Path(f'/proc/{process}/task/{process}/children').read_text().split()]


def test_a_lost_machine_is_started_anew_and_two_equal_one_process(one, tmp_path):
    """Step 3 of the second machine stops until it is lost, with its launcher; the first machine waits for it."""
    options = ('--work-dir', tmp_path / 'work', *HALF)
    config = hurt(tmp_path, one, ('SIGSTOP', 3))
    place = {'NNODES': '2', 'MASTER_ADDR': '127.0.0.1', 'PORT': free_port(), 'MAX_RESTARTS': '1'}

    def start_machine(node: int) -> subprocess.Popen:
        return start('dist_train.sh', config, 1, *options, NODE_RANK=str(node), PYTHONPATH=PATH_OF_FAULTS, **place)

    first, second = start_machine(0), start_machine(1)
    while not (tmp_path / 'SIGSTOP').exists():
        assert first.poll() is None and second.poll() is None
        time.sleep(0.1)
    lost = [second.pid, *children_of(second.pid)]
    for process in lost:
        os.kill(process, signal.SIGKILL)
    second.communicate()
    wait(start_machine(1), first)
    assert not any(Path('/proc', str(process)).exists() for process in lost)
    assert_same_steps(tmp_path / 'work', one)
    assert lines(tmp_path / 'work', 'epoch')[0]['processes'] == 2
    assert len(list((tmp_path / 'work').glob('*/*.log'))) == 2  # rank 0 alone writes, once for each start


def test_two_processes_test_as_one(one, tmp_path):
    """The results of a checkpoint and of its model folder, which is also calibrated."""
    checkpoint, port = one / 'work' / 'iter_4.pth', free_port()
    folders = [export_checkpoint(checkpoint, tmp_path / f'{name}_model') for name in ('two', 'one')]
    wait(
        start(
            'dist_test.sh',
            one / 'tiny.py',
            folders[0],
            2,
            '--calibrate',
            '--work-dir',
            tmp_path / 'two',
            '--out',
            tmp_path / 'two.jsonl',
            '--cfg-options',
            'val_dataloader.batch_size=7',
            PORT=port,
        ),
    )
    alone = [one / 'tiny.py', checkpoint, '--work-dir', tmp_path / 'one', '--out', tmp_path / 'one.jsonl']
    assert main(['test', *map(str, alone)]) == 0
    metrics = [json.loads((tmp_path / name / 'metrics.json').read_text())['metrics'] for name in ('two', 'one')]
    assert_same_metrics(*metrics)
    assert (
        main(['test', str(one / 'tiny.py'), str(folders[1]), '--calibrate', '--work-dir', str(tmp_path / 'fit')]) == 0
    )
    stored = [json.loads((folder / 'kovilt.json').read_text('utf-8'))['calibration'] for folder in folders]
    assert stored[0].pop('temperature') == pytest.approx(stored[1].pop('temperature'), rel=1e-3)
    assert stored[0] == stored[1] and stored[0]['questions'] == metrics[0]['questions']
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / f'{name}.jsonl').read_text(encoding='utf-8').splitlines()]
        for name in ('two', 'one')
    )
    for our, their in zip(ours, theirs, strict=True):
        assert {**our, 'score': 0, 'topk': []} == {**their, 'score': 0, 'topk': []}
        assert our['score'] == pytest.approx(their['score'], abs=2e-6)
    assert len({line['question_id'] for line in ours}) == len(ours) == metrics[0]['questions']
    assert 100 * sum(line['correct'] for line in ours) / len(ours) == pytest.approx(metrics[0]['accuracy'])
    assert ours[0].keys() == {
        *('question_id', 'image', 'question', 'answer', 'score', 'topk'),
        *('ground_truth', 'answer_type', 'correct', 'tolerant_correct'),
    }
    assert not list(tmp_path.glob('.*'))


def test_slurm(one, tmp_path):
    programs = tmp_path / 'bin'
    programs.mkdir()
    (programs / 'scontrol').write_text('#!/bin/sh\necho 127.0.0.1\n')
    (programs / 'srun').write_text(  # what Slurm would set for the only task; options come before the interpreter
        f'#!/bin/bash\necho "$@" > {tmp_path}/srun.txt\nwhile [ "$1" != {sys.executable} ]; do shift; done\n'
        'SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST=here exec "$@"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    wait(
        start(
            'slurm_train.sh',
            'part',
            'a job',
            one / 'tiny.py',
            tmp_path / 'work dir',
            '--cfg-options',
            'train_cfg.max_iters=1',
            PATH=f'{programs}:{os.environ["PATH"]}',
            GPUS='1',
            GPUS_PER_NODE='0',
            PORT=free_port(),
            SRUN_ARGS='--time 10:00',
        )
    )
    asked = (tmp_path / 'srun.txt').read_text()
    assert '-p part --job-name=a job --ntasks=1' in asked and '--time 10:00' in asked and '--gres' not in asked
    assert lines(tmp_path / 'work dir', 'epoch')[0]['processes'] == 1


@pytest.mark.parametrize('tool', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_launchers_say_how_they_are_used(tool):
    answer = subprocess.run(['bash', TOOLS / tool], capture_output=True, text=True)
    assert answer.returncode == 2 and f'bash tools/{tool}' in answer.stderr
