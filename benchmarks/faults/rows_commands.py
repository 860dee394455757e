"""Rows of commands that are killed: validation, test, export, and those that make tokenizers and data."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faults.checks import Silent, check_no_drafts, digest_folder, expect, expect_told, latest
from benchmarks.faults.files import FileEvent, FileEvents, kill_at
from benchmarks.faults.rig import CONFIGS, Try, at_step
from benchmarks.faults.suite import row

Command = Callable[[Path], list[str]]  # the folder in which it writes -> a command line


def kill_command(attempt: Try, command: Command) -> tuple[Path, Path]:
    """Run a command without a fault, then kill it at a random file operation below its folder.

    Returns the folders of both.
    """
    whole, hurt = attempt.folder / 'whole', attempt.folder / 'hurt'
    whole.mkdir()
    hurt.mkdir(exist_ok=True)
    counts = attempt.folder / 'counts'

    def count(number: int, event: FileEvent) -> None:
        counts.write_text(str(number), 'utf-8')

    expect_told(attempt.call(*command(whole), fault=partial(FileEvents, whole, count)), 0)
    moment = attempt.rng.randint(0, int(counts.read_text('utf-8')))
    killed = attempt.call(*command(hurt), fault=partial(FileEvents, hurt, kill_at(moment)))
    expect(killed.code != 0, 'it was not killed')
    return whole, hurt


def repeat(attempt: Try, command: Command, hurt: Path) -> None:
    """Run a killed command again, which must not leave temporary files of either."""
    expect_told(attempt.call(*command(hurt)), 0)
    check_no_drafts(hurt)


def same_files(whole: Path, hurt: Path) -> None:
    """Silent unless both folders hold the same files."""
    if digest_folder(whole) != digest_folder(hurt):
        names = [{str(path.relative_to(folder)) for path in folder.rglob('*')} for folder in (whole, hurt)]
        raise Silent(f'other files than without the kill: {sorted(names[0] ^ names[1]) or "their contents"}')


@row('F27', 'SIGKILL in a validation, a test, an export', '검증, 평가, 내보내기 도중 SIGKILL', tries=20, fast=1)
def killed_evaluation(attempt: Try) -> None:
    """A validation is repeated when the run is resumed. A killed test or export leaves whole files or none, and gives
    the result of an undisturbed one when it is repeated."""
    kind, attempt.task = attempt.number % 4, 'vqa'
    if kind == 0:
        fault = at_step('validation', attempt.rng.choice([6, 12, 18, 24]), 'SIGKILL')
        killed = attempt.train(fault=fault)
        expect(killed.code == -signal.SIGKILL, f'it ended with {killed.code}')
        attempt.resume_exactly()
        return
    checkpoint = latest(attempt.golden_folder / 'run')

    def command(out: Path) -> list[str]:
        if kind == 1:
            return attempt.test_command(checkpoint, out / 'predictions.jsonl', out / 'test')
        return ['export', str(checkpoint), str(out / 'model'), '--overwrite']

    old = ''
    if kind == 3:  # a model folder of an earlier step is replaced
        earlier = next(path for path in checkpoint.parent.glob('iter_*.pth') if path != checkpoint)
        expect_told(attempt.call('export', str(earlier), str(attempt.folder / 'hurt' / 'model')), 0)
        old = digest_folder(attempt.folder / 'hurt' / 'model')
    whole, hurt = kill_command(attempt, command)
    if kind == 1:
        check_results(whole, hurt)
    elif (hurt / 'model').exists() or old:
        if digest_folder(hurt / 'model') not in (old, digest_folder(whole / 'model')):
            raise Silent('the model folder is neither the old one nor the new one')
    repeat(attempt, command, hurt)
    if kind == 1:
        check_results(whole, hurt, due=2)
    else:
        same_files(whole, hurt)


def check_results(whole: Path, hurt: Path, due: int = 0) -> None:
    """Silent unless the files of a test are absent or what they are in `whole`; at least `due` must be there."""
    names = [name for name in ('predictions.jsonl', 'test/metrics.json') if (hurt / name).exists()]
    for name in names:
        if _result(hurt / name) != _result(whole / name):
            raise Silent(f'the killed test gives another {name}')
    expect(len(names) >= due, f'only {names}')


def _result(path: Path) -> object:
    """What a file of `kovilt test` says, without times and paths."""
    if path.suffix == '.jsonl':
        return path.read_text('utf-8')
    return json.loads(path.read_text('utf-8'))['metrics']


def make_tokenizer(attempt: Try, out: Path) -> list[str]:
    rooms = attempt.data
    return ['tokenizer', str(out / 'tokenizer'), '--vocab-size', '250', '--questions', str(rooms / 'vqa')]


def prepare(attempt: Try, out: Path) -> list[str]:
    return ['prepare', str(CONFIGS / 'vqa.py'), str(out / 'prepared'), '--workers', '1']


def draw(attempt: Try, out: Path) -> list[str]:
    return ['rooms', str(out / 'rooms'), '--images', '6']


def read_into_cache(attempt: Try, out: Path) -> list[str]:
    options = ('train_cfg.max_iters=1', f'train_dataloader.dataset.reader.cache={out / "cache"}')
    work = attempt.folder / f'{out.name}-run'
    return attempt.train_command(task='vqa', resume=work.exists(), work=work, options=options)


MAKERS = make_tokenizer, prepare, draw, read_into_cache


@row(
    'F32',
    'SIGKILL while a tokenizer, prepared data, Rooms or a row cache is made',
    '토크나이저, 전처리 데이터, Rooms, 행 캐시를 만드는 도중 SIGKILL',
    tries=20,
    fast=1,
)
def killed_maker(attempt: Try) -> None:
    """The same command then makes the same files, and nothing half-made is taken for whole."""
    command = partial(MAKERS[attempt.number % len(MAKERS)], attempt)
    whole, hurt = kill_command(attempt, command)
    repeat(attempt, command, hurt)
    same_files(whole, hurt)
