"""Rows of several processes: one dies, hangs or differs, their number changes, two write the same file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.faults.checks import (
    Failed,
    Outcome,
    check_close,
    check_no_drafts,
    checked,
    describe_end,
    expect,
    expect_told,
)
from benchmarks.faults.processes import check_no_orphans
from benchmarks.faults.rig import ROOT, STEPS, TWO_RANKS, Try, at_step
from benchmarks.faults.suite import row


@row(
    'F18',
    'world size 1 to 2 to 1, the batch of all ranks stays',
    '랭크 수 1에서 2, 다시 1로, 전체 배치는 그대로',
    tries=8,
    fast=0,
)
def other_world_size(attempt: Try) -> None:
    """The same samples in each step and the same losses; without dropout, which each rank samples for itself. A batch
    that the ranks cannot share is refused."""
    attempt.task = 'vqa'
    alone = ('model.encoder.drop_rate=0.0',)
    both = (*alone, *TWO_RANKS)
    golden = attempt.golden_of(*alone)
    first, second = sorted(attempt.rng.sample(range(2, STEPS - 1), 2))
    ways = [(alone, 1), (both, 2), (alone, 1)] if attempt.number % 2 else [(both, 2), (alone, 1), (both, 2)]
    for (options, ranks), step in zip(ways, (first, second, None), strict=True):
        fault = at_step('before_step', step, 'SIGTERM') if step else None
        faults = {0: fault} if fault else {}
        outcome = attempt.train(*options, ranks=ranks, resume=step != first, fault=fault, faults=faults)
        expect_told(outcome, 75 if step else 0)
        if step == first and attempt.number >= 6:
            odd = ('train_dataloader.batch_size=3',)
            expect_told(attempt.train(*alone, *odd, ranks=2, resume=True), 2, 'batch_size')
    check_close(attempt.work, golden)


def launch(
    attempt: Try, *options: str, fault: list[object] | None = None, timeout: float = 200, **environment: str
) -> Outcome:
    """Train on two ranks by tools/dist_train.sh, that is by torchrun."""
    verb, config, *rest = attempt.train_command(options=(*TWO_RANKS, *options))
    del verb
    variables = {**os.environ, 'PYTHON': sys.executable, **environment}
    if fault:
        variables['KOVILT_FAULT'] = json.dumps([*fault, str(attempt.folder / 'done')])
    start = time.monotonic()
    process = subprocess.Popen(
        ['/bin/bash', str(ROOT / 'tools' / 'dist_train.sh'), config, '2', *rest],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f'the launcher still runs after {timeout:g} s') from None
    return Outcome(process.returncode, text, time.monotonic() - start)


@row(
    'F19',
    'one rank dies under torchrun: SIGKILL, exception, exit',
    'torchrun에서 랭크 하나가 죽음: SIGKILL, 예외, 종료',
    tries=10,
    fast=0,
)
def dead_rank(attempt: Try) -> None:
    """With MAX_RESTARTS torchrun starts all ranks again; without, all are gone within 60 s, and the same command with
    --resume goes on. Exact in both cases."""
    how = ('SIGKILL', 'exception', 'exit')[attempt.number % 3]
    event, step, rank = (
        attempt.rng.choice(['before_step', 'after_step']),
        attempt.rng.randint(2, STEPS),
        attempt.number % 2,
    )
    golden = attempt.golden_of(*TWO_RANKS, ranks=2)
    restarts = attempt.number % 4 < 2
    outcome = launch(attempt, fault=[event, step, rank, how], MAX_RESTARTS=str(int(restarts)))
    check_no_orphans()
    if restarts:
        expect(outcome.code == 0, f'it ended with {outcome.code}: {outcome.text[-300:]}')
        attempt.check(golden)
        return
    expect(outcome.code not in (0, 75), describe_end(outcome))
    expect(outcome.seconds < 120, f'it took {outcome.seconds:.0f} s')
    attempt.resume_exactly(*TWO_RANKS, ranks=2, golden=golden)


@row(
    'F20',
    'one rank hangs: SIGSTOP, sleep, endless loop',
    '랭크 하나가 멈춤: SIGSTOP, 대기, 무한 루프',
    tries=6,
    fast=0,
)
def hanging_rank(attempt: Try) -> None:
    """With a timeout of 10 s the others end within 10 + 45 s and name the rank and its step; under torchrun all
    processes are then gone. The run is resumed exactly."""
    how = ('SIGSTOP', 'sleep', 'loop')[attempt.number % 3]
    timeout, step = 10, attempt.rng.randint(3, STEPS)
    options = (*TWO_RANKS, f'env_cfg.dist_cfg.timeout={timeout}')
    golden = attempt.golden_of(*TWO_RANKS, ranks=2)
    if attempt.number < 3:
        commands = [attempt.train_command(options=options)] * 2
        processes = attempt.start_ranks(commands, {1: at_step('before_step', step, how)})
        outcome = checked(processes[0].wait(300))
        if processes[1].is_running():
            processes[1].send(signal.SIGKILL)
    else:
        outcome = checked(launch(attempt, *options[2:], fault=['before_step', step, 1, how]))
    waited = time.time() - Path(f'{attempt.work}.trace').stat().st_mtime
    check_no_orphans()
    expect_told(outcome, 1, 'rank 1', f'the last step that all have finished is {step - 1}')
    expect(waited < timeout + 45, f'it took {waited:.0f} s')
    attempt.resume_exactly(*TWO_RANKS, ranks=2, golden=golden)


@row(
    'F22',
    'port in use, wrong address, a rank or a machine that does not come',
    '포트 사용 중, 틀린 주소, 오지 않는 랭크나 머신',
    tries=8,
    fast=0,
)
def no_rendezvous(attempt: Try) -> None:
    """One line names the address within the timeout, exit code 2, or 1 if machines may have been lost; no work folder
    is left."""
    kind, timeout = attempt.number % 4, 5
    options = (*TWO_RANKS, f'env_cfg.dist_cfg.join_timeout={timeout}')
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        port = str(other.getsockname()[1])
        if kind == 0:
            other.listen()
            outcome = launch(attempt, PORT=port)
        elif kind == 1:
            other.close()
            outcome = launch(attempt, PORT=port, NNODES='2', NODE_RANK='0', MASTER_ADDR='127.0.0.1', JOIN_TIMEOUT='5')
        else:
            environment = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'WORLD_SIZE': '2', 'LOCAL_RANK': '0'}
            environment['RANK'] = '0' if kind == 2 else '1'
            if kind == 2:
                other.close()
            command = attempt.train_command(options=options)
            outcome = attempt.call(command[0], '--launcher', 'pytorch', *command[1:], environment=environment)
    check_no_orphans()
    expect_told(outcome, 1 if kind == 1 else 2, port)
    expect(outcome.seconds < timeout + 90, f'it took {outcome.seconds:.0f} s')  # with the start of the processes
    expect(not attempt.work.exists(), 'a work folder is left')


def other_label(attempt: Try) -> dict[str, str]:
    """A copy of the data in which one question has another answer; the environment in which configs read it."""
    rooms = Path(shutil.copytree(attempt.data, attempt.folder / 'other'))
    path = max(rooms.glob('vqa/Training/**/*.json'), key=lambda file: file.stat().st_size)
    content = json.loads(path.read_text('utf-8'))
    answers = [question['answer'] for question in content['question']]
    first = attempt.rng.choice(content['question'])
    first['answer'] = next(answer for answer in answers if answer != first['answer'])
    path.write_text(json.dumps(content, ensure_ascii=False), 'utf-8')
    return {'KOVILT_ROOMS': str(rooms)}


def other_tokenizer(attempt: Try) -> dict[str, str]:
    from kovilt.datasets import AIHubLivingReader, train_tokenizer

    rooms = Path(shutil.copytree(attempt.data, attempt.folder / 'other'))
    shutil.rmtree(rooms / 'tokenizer')
    texts = AIHubLivingReader(data_root=str(rooms / 'vqa'), split='train').read_rows().texts()
    train_tokenizer(texts, rooms / 'tokenizer', vocab_size=200)
    return {'KOVILT_ROOMS': str(rooms)}


# What rank 1 has otherwise: options, or a function that makes its environment; and a word of the message.
DIFFERENCES = [
    (('randomness.seed=5',), 'seed'),
    (('optim_wrapper.optimizer.lr=0.5',), 'lr'),
    (('model.encoder.drop_rate=0.3',), 'drop_rate'),
    (('train_dataloader.dataset.limit=56',), ''),
    (('train_cfg.max_iters=20',), 'max_iters'),
    (('train_dataloader.dataset.answers.min_count=1',), 'answers'),
    (other_label, ''),
    (other_tokenizer, ''),
]


@row(
    'F21',
    'ranks differ in config, rows, answers or tokenizer; uneven data',
    '랭크마다 설정, 행, 답 어휘, 토크나이저가 다름; 나누어떨어지지 않는 데이터',
    tries=16,
    fast=1,
)
def different_ranks(attempt: Try) -> None:
    """A difference is named before the first step, and all ranks end with 2. Rows that do not divide evenly are filled
    up in the same way on all ranks."""
    attempt.task = 'vqa'
    kind = attempt.number // 2
    if attempt.number % 2 and kind % 2:
        rows = f'train_dataloader.dataset.limit={attempt.rng.randint(57, 63)}'
        alone = (rows, 'model.encoder.drop_rate=0.0')
        golden = attempt.golden_of(*alone)
        expect_told(attempt.train(*alone, *TWO_RANKS, ranks=2), 0)
        check_close(attempt.work, golden)
        return
    other, word = DIFFERENCES[kind]
    options, environment = (other, {}) if isinstance(other, tuple) else ((), other(attempt))
    commands = [attempt.train_command(options=(*TWO_RANKS, *extra)) for extra in ((), options)]
    outcomes = attempt.train_ranks(commands, environments=[{}, environment])
    for outcome in outcomes:
        expect_told(outcome, 2, 'rank 1 differs from rank 0 in', word)
    expect(not list(attempt.folder.glob('run.trace*')), 'a step was taken')


@row('F37', 'two ranks write the same files', '두 랭크가 같은 파일을 씀', tries=20, fast=0)
def same_files(attempt: Try) -> None:
    """Records, logs, checkpoints, and a row cache that both ranks find missing: no line is torn, nothing is left."""
    cache = attempt.folder / 'cache'
    options = (*TWO_RANKS, 'train_cfg.max_iters=6', f'train_dataloader.dataset.reader.cache={cache}')
    golden = attempt.golden_of(*options, ranks=2)
    shutil.rmtree(cache)
    outcome = attempt.train(*options, ranks=2)
    expect(outcome.code == 0, describe_end(outcome))
    attempt.check(golden, lost=0)
    expect(len(list(attempt.work.glob('*/*.log'))) == 1, 'both ranks write a log')
    check_no_drafts(cache)
    again = attempt.golden_of(*options, ranks=2, name='again')  # from the cache
    expect(again == golden, 'the cache holds other rows')
