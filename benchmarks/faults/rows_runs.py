"""Rows of runs in odd conditions: two in one folder, foreign checkpoints, odd environments, a long run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.checks import Outcome, Silent, checked, describe_end, digest_folder, expect, expect_told, latest
from benchmarks.faults.files import FileEvent, FileEvents
from benchmarks.faults.hooks import FaultHook
from benchmarks.faults.rig import STEPS, Try
from benchmarks.faults.suite import row


@row('F23', 'two runs in one work folder', '한 작업 폴더에서 두 개의 학습', tries=6, fast=1)
def one_folder(attempt: Try) -> None:
    """While a run goes on, a second is refused, new or resumed, and changes nothing; the lock ends with its process; a
    new run where an old one has left its records is refused, and the old one is then resumed."""
    go_on = attempt.folder / 'go_on'
    step = attempt.rng.randint(4, STEPS - 1)

    def pause() -> None:
        def wait(runner: Any) -> None:
            (attempt.folder / 'paused').touch()
            while not go_on.exists():
                time.sleep(0.01)

        FaultHook.plan['before_step', step] = wait

    wait_for_saves = 'default_hooks.checkpoint.background=False'  # nothing is written while the run is paused
    first = attempt.start(*attempt.train_command(options=(wait_for_saves,)), fault=pause)
    while not (attempt.folder / 'paused').exists():
        expect(first.is_running(), 'the first run has ended')
        time.sleep(0.01)
    before = digest_folder(attempt.work)
    expect_told(attempt.train(resume=bool(attempt.number % 2)), 2, 'a run is going on there', '--work-dir')
    if digest_folder(attempt.work) != before:
        raise Silent('the second run has changed the folder of the first')
    if attempt.number % 3 == 0:
        go_on.touch()
        expect_told(checked(first.wait()), 0)
        attempt.check(lost=0)
        return
    first.send(signal.SIGKILL)
    first.wait()
    before = digest_folder(attempt.work)
    expect_told(attempt.train(), 2, 'it holds an earlier run', '--resume')
    if digest_folder(attempt.work) != before:
        raise Silent('the refused run has changed the folder')
    attempt.resume_exactly()


# Foreign checkpoints. Each change returns the exit code that is due for `kovilt test`, or for --resume.


def half(content: dict[str, Any]) -> None:
    content['state_dict'] = {name: value.half() for name, value in content['state_dict'].items()}


def prefix(text: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content['state_dict'] = {text + name: value for name, value in content['state_dict'].items()}

    return change


def a_name(content: dict[str, Any]) -> str:
    return next(name for name, value in content['state_dict'].items() if value.ndim == 2)


def edit(change: Callable[[dict[str, Any], str], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda content: change(content['state_dict'], a_name(content))


def swap_answers(content: dict[str, Any]) -> None:
    answers = content['meta']['dataset_meta']['answers']
    answers[0], answers[1] = answers[1], answers[0]


# What is tested (exit code 0 and the accuracy of the original, or 2 and a word of the message)
TESTED: list[tuple[str, Callable[[dict[str, Any]], Any], int, str]] = [
    (
        'weights alone',
        lambda content: [content.pop(key) for key in [*content] if key not in ('state_dict', 'meta')],
        0,
        '',
    ),
    ('DistributedDataParallel', prefix('module.'), 0, ''),
    ('torch.compile', prefix('_orig_mod.'), 0, ''),
    ('no optimizer', lambda content: content.pop('optimizer'), 0, ''),
    ('a tensor is missing', edit(lambda state, name: state.pop(name)), 2, 'is missing there'),
    ('an unknown tensor', edit(lambda state, name: state.update(extra=state[name])), 2, 'has no place here'),
    ('another shape', edit(lambda state, name: state.update({name: state[name][:1].clone()})), 2, 'there and'),
    ('NaN', edit(lambda state, name: state[name].fill_(float('nan'))), 2, 'NaN'),
    ('whole numbers', edit(lambda state, name: state.update({name: state[name].long()})), 2, ''),
    ('answers in another order', swap_answers, 2, 'answer'),
    ('answers of another length', lambda content: content['meta']['dataset_meta']['answers'].pop(), 2, 'answers there'),
    ('another tokenizer', lambda content: content['meta']['data_sizes'].update(vocabulary_digest='0'), 2, 'tokenizer'),
    ('another encoder', lambda content: content['meta'].update(encoder_type='PrefixViLT'), 2, 'encoder'),
    ('no state_dict', lambda content: content.update(state_dict=None), 2, 'state_dict'),
]
# What a run that is resumed refuses.
NOT_RESUMED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ('no optimizer', lambda content: content.pop('optimizer'), '--load-from'),
    ('no schedules', lambda content: content.pop('param_schedulers'), '--load-from'),
    ('no step', lambda content: content['meta'].pop('iter'), '--load-from'),
    ('another seed', lambda content: content['meta'].update(seed=5), '--seed 5'),
    ('state of other shapes', lambda content: misshape(content), 'does not fit'),
    ('other groups', lambda content: content['optimizer']['param_groups'].pop(), 'parameter groups'),
]


def misshape(content: dict[str, Any]) -> None:
    for state in content['optimizer']['state'].values():
        for key, value in state.items():
            if getattr(value, 'ndim', 0):
                state[key] = value.flatten()[:1].clone()


@row(
    'F25',
    'checkpoints of others: missing, extra, misshapen tensors, prefixes, other answers',
    '다른 체크포인트: 텐서가 없거나 남거나 모양이 다름, 접두사, 다른 답',
    tries=20,
    fast=2,
)
def foreign_checkpoint(attempt: Try) -> None:
    """Either the weights are all taken, and the test gives the accuracy of the original, or one line says why not."""
    import torch

    attempt.task = 'vqa'
    source = latest(attempt.golden_folder / 'run')
    content = torch.load(source, weights_only=True)
    foreign = attempt.folder / 'foreign.pth'
    if attempt.number < len(TESTED):
        _, change, code, word = TESTED[attempt.number]
        change(content)
        torch.save(content, foreign)
        outcome = attempt.call(*attempt.test_command(foreign, attempt.folder / 'out.jsonl', attempt.folder / 'test'))
        expect_told(outcome, code, *([word, foreign.name] if code else []))
        if code == 0:
            found = json.loads((attempt.folder / 'test' / 'metrics.json').read_text('utf-8'))['metrics']['accuracy']
            due = [row['accuracy'] for row in attempt.golden['vqa'].metrics if row['mode'] == 'val'][-1]
            if found != due:
                raise Silent(f'accuracy {found}, not {due}')
        return
    _, change, word = NOT_RESUMED[attempt.number - len(TESTED)]
    change(content)
    torch.save(content, foreign)
    command = attempt.train_command(options=('train_cfg.max_iters=30',))
    command[4:4] = ['--resume', str(foreign)]
    expect_told(attempt.call(*command), 2, word)


def environment_of(attempt: Try) -> tuple[str, dict[str, str | None], Path, int]:
    """What is unusual, the variables (None = unset), the folder to start in, and the umask."""
    here, umask = attempt.folder, 0o022
    home = attempt.folder / 'no home'
    unusual: list[tuple[str, dict[str, str | None]]] = [
        ('no HOME', {'HOME': None}),
        ('HOME is missing', {'HOME': str(home)}),
        ('C locale', {'LC_ALL': 'C', 'LANG': None, 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}),
        ('POSIX locale, ASCII output', {'LC_ALL': 'POSIX', 'PYTHONUTF8': '0', 'PYTHONIOENCODING': 'ascii'}),
        ('umask 077', {}),
        ('no network', {'http_proxy': 'http://127.0.0.1:9', 'https_proxy': 'http://127.0.0.1:9'}),
        ('TMPDIR is missing', {'TMPDIR': str(home)}),
    ]
    name, variables = unusual[attempt.number % len(unusual)]
    return name, variables, here, 0o077 if name == 'umask 077' else umask


@row(
    'F39',
    'environment: no HOME, C locale, umask 077, Hangul and blanks in paths',
    '환경: HOME 없음, C 로캘, umask 077, 한글과 공백이 든 경로',
    tries=7,
    fast=0,
)
def odd_environment(attempt: Try) -> None:
    """A training and a test in an interpreter of their own, below a folder whose name has Hangul and blanks; exact."""
    name, variables, here, umask = environment_of(attempt)
    place = here / '한글 폴더 이름'
    place.mkdir()
    rooms = Path(shutil.copytree(attempt.data, place / '데이터'))
    environment = {**os.environ, 'KOVILT_ROOMS': str(rooms)}
    for key, value in variables.items():
        environment.pop(key, None)
        if value is not None:
            environment[key] = value
    attempt.task, attempt.work = 'vqa', place / '작업 폴더'
    golden = attempt.golden_of('train_cfg.max_iters=6')
    expect_told(run_alone(attempt.train_command(options=('train_cfg.max_iters=6',)), here, environment, umask), 0)
    attempt.check(golden, lost=0)
    command = attempt.test_command(latest(attempt.work), place / '예측.jsonl', place / '평가')
    expect_told(run_alone(command, here, environment, umask), 0)
    modes = {path.name: path.stat().st_mode & 0o777 for path in attempt.work.iterdir() if path.is_file()}
    wrong = {name: oct(mode) for name, mode in modes.items() if mode != 0o666 & ~umask}
    expect(not wrong, f'permissions {wrong}')


def run_alone(command: list[str], folder: Path, environment: dict[str, str], umask: int) -> Outcome:
    """Run `kovilt ...` in an interpreter of its own."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, '-m', 'kovilt', *command],
        cwd=folder,
        env=environment,
        umask=umask,
        capture_output=True,
        timeout=300,
    )
    text = (done.stdout + done.stderr).decode('utf-8', errors='replace')
    return checked(Outcome(done.returncode, text, time.monotonic() - start))


FAILING = ('add_scalars refuse', 'add_scalars hang', 'add_config full', 'add_config exit', 'close hang', 'close other')


@row(
    'F28',
    'log back end refuses, hangs or exits, its disk is full, its package is missing',
    '로그 백엔드가 거부하거나 멈추거나 종료함, 디스크가 가득 참, 패키지가 없음',
    tries=8,
    fast=1,
)
def failing_back_end(attempt: Try) -> None:
    """One warning, and the run is exactly what it is without the back end. A missing package is one line with the
    command that installs it."""

    def be_impatient() -> None:
        from kovilt.engine import log_backends

        log_backends.PATIENCE = 0.2

    attempt.task = 'vqa'
    golden = attempt.golden_of()
    if attempt.number == len(FAILING):
        attempt.task = 'backends'
        missing = 'visualizer.vis_backends=[{"type": "NeptuneVisBackend"}]'
        expect_told(attempt.train(missing), 2, 'pip install')
        return
    if attempt.number > len(FAILING):

        def fill(number: int, event: FileEvent) -> None:
            if 'vis_data' in event.path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        outcome = attempt.train(fault=partial(FileEvents, attempt.work, fill))
    else:
        attempt.task = 'backends'
        how = FAILING[attempt.number]
        outcome = attempt.train(environment={'KOVILT_BACKEND': how}, fault=be_impatient)
        warnings = outcome.text.count('FaultBackend fails (')
        expect(warnings == 1, f'{warnings} warnings')
    expect_told(outcome, 0)
    attempt.check(golden, lost=0)


SOAK = 3000  # steps


@row(
    'F29',
    f'a long run: {SOAK:,} steps, 100 saves, 20 validations',
    f'긴 학습: {SOAK:,}스텝, 저장 100회, 검증 20회',
    tries=2,
    fast=0,
)
def soak(attempt: Try) -> None:
    """Memory, file descriptors, threads, processes and /dev/shm at the end are those after the first fifth."""
    seen: dict[int, dict[str, int]] = {}
    log = attempt.folder / 'soak.json'

    def measure(runner: Any) -> None:
        import gc

        gc.collect()
        seen[runner.iter + 1] = usage()
        log.write_text(json.dumps(seen))

    def plan() -> None:
        for step in range(SOAK // 5, SOAK + 1, SOAK // 5):
            FaultHook.plan['before_step', step] = measure

    options = (
        f'train_cfg.max_iters={SOAK}',
        f'train_cfg.val_interval={SOAK // 20}',
        f'default_hooks.checkpoint.interval={SOAK // 100}',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=True',
        'val_dataloader.num_workers=1',
    )
    outcome = attempt.train(*options, fault=plan, timeout=1200)
    expect(outcome.code == 0, describe_end(outcome))
    found = {int(step): values for step, values in json.loads(log.read_text()).items()}
    first, last = found[min(found)], found[max(found)]
    growth = 100 * (last['memory'] - first['memory']) / first['memory']
    expect(growth <= 2, f'the memory grew by {growth:.1f} %: {found}')
    for name in ('files', 'threads', 'processes', 'shared'):
        expect(last[name] <= first[name], f'{name}: {first[name]}, then {last[name]}')


def usage() -> dict[str, int]:
    """What this process holds: bytes of memory, open files, threads, child processes, files in /dev/shm."""
    rollup = Path('/proc/self/smaps_rollup').read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(('Private_', 'Shared_')))
    children = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
    return {
        'memory': private * 1024,
        'files': len(os.listdir('/proc/self/fd')),
        'threads': len(os.listdir('/proc/self/task')),
        'processes': len(children),
        'shared': Path('/proc/self/maps').read_text().count('/dev/shm/'),  # noqa: S108  # read, not written
    }
