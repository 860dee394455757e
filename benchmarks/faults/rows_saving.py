"""Rows of checkpoints that are damaged, cannot be written, or have wrong times."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from functools import partial

from benchmarks.faults.checks import (
    Silent,
    check_no_drafts,
    checked,
    describe_end,
    digest_checkpoint,
    expect,
    expect_told,
    latest,
    steps_taken,
)
from benchmarks.faults.files import FileEvent, FileEvents
from benchmarks.faults.rig import STEPS, Try, at_step
from benchmarks.faults.suite import row

KEEP_ALL = 'default_hooks.checkpoint.max_keep_ckpts=-1'


def run_and_kill(attempt: Try) -> int:
    """Train, keeping all checkpoints, until SIGKILL after a random step. Returns the step of the newest one."""
    step = attempt.rng.randint(10, STEPS)
    killed = attempt.train(KEEP_ALL, fault=at_step('after_step', step, 'SIGKILL'))
    expect(killed.code == -signal.SIGKILL, f'it ended with {killed.code}')
    return max(int(path.stem[5:]) for path in attempt.work.glob('iter_*.pth'))


def expect_resumed_from(attempt: Try, due: int) -> None:
    """Check that the second run of a try has begun after step `due`."""
    taken = steps_taken(attempt.work)
    again = next(index for index in range(1, len(taken)) if taken[index] <= taken[index - 1])
    expect(taken[again] == due + 1, f'resumed at step {taken[again]}, not {due + 1}')


POINTERS = (
    None,
    b'',
    b'iter_99.pth',
    b'/elsewhere/run/iter_3.pth',
    b'iter_6.pth\r\n',
    b'\xff\xfei\x00t\x00',
    b'\0' * 40,
)


@row(
    'F03',
    'pointer to the last checkpoint missing, empty, wrong, not UTF-8',
    '마지막 체크포인트 포인터가 없거나 비었거나 틀리거나 UTF-8이 아님',
    tries=14,
    fast=1,
)
def damaged_pointer(attempt: Try) -> None:
    """Any content leads to a checkpoint that is there: to the one that it names, else to the newest."""
    newest = run_and_kill(attempt)
    pointer = attempt.work / 'last_checkpoint'
    content = POINTERS[attempt.number % len(POINTERS)]
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)
    attempt.resume_exactly(KEEP_ALL, lost=STEPS)
    named = {b'/elsewhere/run/iter_3.pth': 3, b'iter_6.pth\r\n': 6}.get(content or b'', newest)
    expect_resumed_from(attempt, min(named, newest))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    '0 %': lambda content: b'',
    '10 %': lambda content: content[: len(content) // 10],
    '50 %': lambda content: content[: len(content) // 2],
    '99 %': lambda content: content[: len(content) * 99 // 100],
    'zeros': lambda content: bytes(len(content)),
    'text': lambda content: b'not a checkpoint\n' * 100,
    'zeros at the end': lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
}


@row(
    'F04',
    'newest checkpoint truncated, zero-filled or replaced by text',
    '가장 새로운 체크포인트가 잘리거나 0으로 채워지거나 텍스트로 바뀜',
    tries=14,
    fast=1,
)
def damaged_newest(attempt: Try) -> None:
    """--resume names the damaged file and takes the newest valid one."""
    newest = run_and_kill(attempt)
    path = attempt.work / f'iter_{newest}.pth'
    (attempt.work / 'last_checkpoint').write_text(path.name)
    path.write_bytes(list(DAMAGES.values())[attempt.number % len(DAMAGES)](path.read_bytes()))
    outcome = attempt.resume_exactly(KEEP_ALL, lost=STEPS)
    expect(path.name in outcome.text and 'trying the checkpoint before' in outcome.text, 'it does not name the damage')
    expect_resumed_from(attempt, newest - 3)


@row('F05', 'one bit flipped anywhere in a checkpoint', '체크포인트의 임의의 비트 하나가 뒤집힘', tries=200, fast=8)
def flipped_bit(attempt: Try) -> None:
    """Weights, optimizer or meta: reading refuses the file. (A flip in the padding between records changes nothing.)"""
    source = latest(attempt.golden_folder / 'run')
    content = bytearray(source.read_bytes())
    content[attempt.rng.randrange(len(content))] ^= 1 << attempt.rng.randrange(8)
    flipped = attempt.folder / source.name
    flipped.write_bytes(content)

    def read() -> int:
        from kovilt.engine.checkpoints import read_checkpoint
        from kovilt.errors import run_cli

        return run_cli(lambda: print(read_checkpoint(flipped)['meta']['iter']))

    outcome = checked(attempt.fork(read).wait())
    if outcome.code:
        expect_told(outcome, 2, str(flipped))
    elif digest_checkpoint(flipped) != digest_checkpoint(source):
        raise Silent('other values are read')


def limit_files(attempt: Try) -> None:
    """No file may be larger than 100 KB: less than a checkpoint, more than a record."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def refuse(number: int) -> Callable[[Try], None]:
    """Writing fails with an error number at a random file operation, or the next one that writes, and three more."""

    def fault(attempt: Try) -> None:
        first, left = attempt.rng.randint(20, 120), 4

        def fail(count: int, event: FileEvent) -> None:
            nonlocal left
            if count >= first and left and event.name in ('open', 'fsync', 'rename', 'save.half'):
                left -= 1
                raise OSError(number, os.strerror(number))

        FileEvents(attempt.work, fail)

    return fault


FULL: list[tuple[str, Callable[[Try], None]]] = [
    ('a limit of the size of files', limit_files),
    ('no space left', refuse(errno.ENOSPC)),
    ('quota exceeded', refuse(errno.EDQUOT)),
    ('a folder that has become read-only', refuse(errno.EROFS)),
    ('an input/output error', refuse(errno.EIO)),
]


@row(
    'F06',
    'disk full, quota, file size limit, read-only folder, I/O error in a save',
    '저장 중 디스크 가득 참, 쿼터, 파일 크기 제한, 읽기 전용 폴더, 입출력 오류',
    tries=20,
    fast=1,
)
def cannot_write(attempt: Try) -> None:
    """With on_save_error=stop one line tells the reason and what is safe, exit code 1, and the run is resumed when
    there is room; with 'warn' it goes on, and what can be written later is written. Only a run whose last checkpoint
    fails ends with 1."""
    _, fault = FULL[attempt.number // 2 % len(FULL)]
    warn = attempt.number // 2 // len(FULL) % 2 == 1
    options = (f'on_save_error={"warn" if warn else "stop"}',)
    outcome = attempt.train(*options, fault=partial(fault, attempt))
    if warn:
        expect(outcome.code == (fault is limit_files), describe_end(outcome))  # 1: the last one failed, too
        expect('the training goes on' in outcome.text, 'it does not tell')
    else:
        remedy = '--resume' if any(attempt.work.glob('iter_*')) else 'start again'
        expect_told(outcome, 1, 'cannot be written', remedy)
    check_no_drafts(attempt.work)
    if not warn or fault is limit_files:
        attempt.resume_exactly(*options, lost=STEPS)


@row(
    'F26',
    'clock jumps back, times of files equal or reversed',
    '시계가 뒤로 가고 파일 시각이 같거나 거꾸로임',
    tries=6,
    fast=0,
)
def wrong_times(attempt: Try) -> None:
    """The newest checkpoint is told by the step inside, and nothing waits for the clock."""
    newest = run_and_kill(attempt)
    (attempt.work / 'last_checkpoint').unlink()
    for path in attempt.work.glob('iter_*.pth'):
        when = 1_700_000_000 - int(path.stem[5:]) * (attempt.number % 2)
        os.utime(path, (when, when))

    def jump_back() -> None:
        import time

        now = time.time
        time.time = lambda: now() - 10**8

    attempt.resume_exactly(KEEP_ALL, fault=jump_back)
    expect_resumed_from(attempt, newest)
