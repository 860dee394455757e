"""Rows of runs that are killed or asked to end: at a step, in a save, in a validation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.faults.checks import describe_end, expect, expect_told, steps_taken
from benchmarks.faults.files import FileEvent, FileEvents
from benchmarks.faults.hooks import FaultHook, send
from benchmarks.faults.processes import check_no_orphans
from benchmarks.faults.rig import STEPS, TWO_RANKS, Try, at_step
from benchmarks.faults.suite import row


@row('F01', 'SIGKILL at a random step', '임의의 스텝에서 SIGKILL', tries=20, fast=1)
def sigkill_at_a_step(attempt: Try) -> None:
    """Before or after a step; half of the runs have loader workers. The resumed run is exact."""
    workers = f'train_dataloader.num_workers={attempt.number // 2 % 2}'
    event, step = attempt.rng.choice(['before_step', 'after_step']), attempt.rng.randint(1, STEPS)
    killed = attempt.train(workers, fault=at_step(event, step, 'SIGKILL'))
    expect(killed.code == -signal.SIGKILL, f'it ended with {killed.code}')
    check_no_orphans()
    attempt.resume_exactly(workers)


SAVE = 'iter_9.pth'  # the third checkpoint: older ones are removed after it


@row('F02', 'SIGKILL at each file operation of a save', '저장 중의 파일 작업마다 SIGKILL', tries=24, fast=2)
def sigkill_in_a_save(attempt: Try) -> None:
    """From the first operation on a checkpoint to the next save, and with half of its bytes written; two, three or all
    checkpoints are kept, written beside the training or before it goes on."""
    options = (
        f'default_hooks.checkpoint.max_keep_ckpts={(2, 3, -1)[attempt.number % 3]}',
        f'default_hooks.checkpoint.background={attempt.number // 3 % 2 == 0}',
    )
    names = events_of_save(attempt, *options)
    kinds = sorted(set(names))  # every kind of operation gets its turn; which of its kind is random
    kind = kinds[attempt.number // 3 % len(kinds)]
    moment = attempt.rng.randint(1, names.count(kind))
    seen: list[FileEvent] = []  # of the save

    def kill(number: int, event: FileEvent) -> None:
        if seen or SAVE in event.path:
            seen.append(event)
        if event.name == kind and sum(one.name == kind for one in seen) == moment:
            send('SIGKILL')

    killed = attempt.train(*options, fault=partial(FileEvents, attempt.work, kill))
    expect(killed.code == -signal.SIGKILL, f'it ended with {killed.code}')
    attempt.resume_exactly(*options)


def events_of_save(attempt: Try, *options: str) -> list[str]:
    """The names of the file operations from the save of SAVE to the next save, in a run without a fault."""
    log = attempt.folder / 'events'

    def record(number: int, event: FileEvent) -> None:
        with open(log, 'a', encoding='utf-8') as file:
            file.write(f'{event.name} {event.path}\n')

    def stop_after_save() -> None:
        FileEvents(attempt.work, record)
        FaultHook.plan['before_step', 12] = lambda runner: os._exit(0)

    attempt.train(*options, fault=stop_after_save)
    lines = log.read_text('utf-8').splitlines()
    first = next(index for index, line in enumerate(lines) if SAVE in line)
    attempt.clear()
    return [line.split()[0] for line in lines[first:]]


MOMENTS = 'step', 'save', 'validation', 'start'
ASKING = 'SIGTERM', 'SIGINT', 'SIGUSR1'


def ask_to_end(attempt: Try, moment: str, name: str) -> Callable[[], None]:
    """A fault: a signal in a step, in a save, in a validation, or before the first step."""
    step = attempt.rng.randint(2, STEPS - 1)
    if moment == 'save':

        def in_save(number: int, event: FileEvent) -> None:
            if event.name == 'save.half' and SAVE in event.path:
                send(name)

        return partial(FileEvents, attempt.work, in_save)
    if moment == 'validation':
        return at_step('validation', attempt.rng.choice([6, 12, 18, 24]), name)
    return at_step('before_step', 1 if moment == 'start' else step, name)


@row(
    'F07',
    'SIGTERM, SIGINT, SIGUSR1 in a step, a save, a validation, before step 1',
    '스텝, 저장, 검증 도중과 첫 스텝 전의 SIGTERM, SIGINT, SIGUSR1',
    tries=22,
    fast=2,
)
def asked_to_end(attempt: Try) -> None:
    """On one rank, then on two, of which one gets the signal. All end with 75, saved; no step is lost. In two tries a
    second SIGINT ends the run at once."""
    if attempt.number >= 20:
        second_sigint(attempt)
        return
    name = ASKING[attempt.number % 3]
    if attempt.number < 12:
        fault = ask_to_end(attempt, MOMENTS[attempt.number // 3], name)
        expect_told(attempt.train(fault=fault), 75, f'{name}: the run is saved up to step', '--resume')
        attempt.resume_exactly(lost=0)
        return
    moment = MOMENTS[attempt.number % 4]
    rank = 0 if moment == 'save' else attempt.number // 4 % 2
    golden = attempt.golden_of(*TWO_RANKS, ranks=2)
    outcome = attempt.train(*TWO_RANKS, ranks=2, faults={rank: ask_to_end(attempt, moment, name)})
    expect_told(outcome, 75, 'the run is saved up to step', '--resume')
    attempt.resume_exactly(*TWO_RANKS, ranks=2, lost=0, golden=golden)


def second_sigint(attempt: Try) -> None:
    def plan() -> None:
        step = attempt.rng.randint(2, STEPS - 1)

        def twice(runner: object) -> None:
            send('SIGINT')
            send('SIGINT')

        FaultHook.plan['before_step', step] = twice

    expect_told(attempt.train(fault=plan), 130, 'interrupted')
    attempt.resume_exactly()


@row('F08', 'SIGTERM, and SIGKILL while the run saves', 'SIGTERM 뒤 저장하는 동안 SIGKILL', tries=8, fast=1)
def killed_while_it_ends(attempt: Try) -> None:
    """The grace after SIGTERM is too short: SIGKILL comes at a random file operation after it."""
    step, moment = attempt.rng.randint(2, STEPS - 1), attempt.rng.randint(0, 9)

    def fault() -> None:
        first: list[int] = []

        def kill(number: int, event: FileEvent) -> None:
            if first and number >= first[0] + moment:
                send('SIGKILL')

        events = FileEvents(attempt.work, kill)

        def ask(runner: object) -> None:
            send('SIGTERM')
            first.append(events.count)

        FaultHook.plan['before_step', step] = ask

    outcome = attempt.train(fault=fault)
    expect(outcome.code in (-signal.SIGKILL, 75), describe_end(outcome))
    attempt.resume_exactly()


@row('F17', 'resume after every step of two epochs', '두 에폭의 모든 스텝에서 이어서 학습', tries=32, fast=1)
def resume_after_each_step(attempt: Try) -> None:
    """Also at the edge of an epoch, in accumulation (two micro-batches), with loader workers, and in a run that is
    counted in epochs. No step is lost, no sample is seen twice or never."""
    step = attempt.number % 16 + 1
    options = [
        (),
        ('train_dataloader.collate_fn.micro_batches=2',),
        ('train_dataloader.num_workers=2',),
        (),
    ][attempt.number // 4 % 4]
    attempt.task = 'epochs' if attempt.number // 4 % 4 == 3 else attempt.task
    golden = attempt.golden_of(*options)
    outcome = attempt.train(*options, fault=at_step('before_step', step, 'SIGTERM'))
    expect_told(outcome, 75, f'the run is saved up to step {step}')
    attempt.resume_exactly(*options, lost=0, golden=golden)
    taken = steps_taken(attempt.work)
    expect(taken == list(range(1, STEPS + 1)), f'steps {taken}')


def hurt_worker(how: str, batch: int) -> Callable[[], None]:
    """A fault: a loader worker ends, or never answers, at one of its batches (counted from 1)."""

    def fault() -> None:
        from torch.utils.data import get_worker_info

        from kovilt.datasets import PairDataset

        load, count = PairDataset.__getitems__, iter(range(1, 10_000))

        def load_or_end(self: PairDataset, indices: list[int]) -> list[dict[str, Any]]:
            if get_worker_info() is not None and next(count) == batch:
                if how == 'stuck':
                    signal.pause()
                os._exit(3) if how == 'exit' else send('SIGKILL')
            return load(self, indices)

        PairDataset.__getitems__ = load_or_end

    return fault


@row('F09', 'loader worker killed, ended, stuck', '데이터 로더 워커가 죽거나 끝나거나 멈춤', tries=12, fast=1)
def dead_worker(attempt: Try) -> None:
    """The run is saved and ends in one line that names the worker; no step is lost, no process is left."""
    how = ('killed', 'exit', 'stuck')[attempt.number % 3]
    options = (f'train_dataloader.num_workers={1 + attempt.number // 6}', 'train_dataloader.timeout=5')
    outcome = attempt.train(*options, fault=hurt_worker(how, attempt.rng.randint(2, STEPS // 2)))
    expect_told(outcome, 1, 'data loader', 'the run is saved up to step', '--resume')
    check_no_orphans()
    attempt.resume_exactly(*options, lost=0)
