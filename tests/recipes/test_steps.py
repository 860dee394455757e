import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kovilt.errors import KoviltError
from kovilt.recipes import progress
from kovilt.recipes.progress import StepProgress, StepsDisplay, format_duration
from kovilt.recipes.steps import Step, finished_steps, run_steps

ROOT = Path(__file__).resolve().parents[2]
COUNT_RUNS = 'import pathlib, sys; open(pathlib.Path(sys.argv[1]) / "runs", "a").write("x")'
WAIT_FOR_OTHER = (  # argument: the name of the other step
    'import pathlib, sys, time; me = pathlib.Path(sys.argv[1]); (me / "here").touch(); end = time.monotonic() + 60\n'
    'while not (me.parent / sys.argv[2] / "here").exists():\n'
    '    time.sleep(0.01)\n'
    '    assert time.monotonic() < end'
)


def step(work: Path, name: str, code: str = COUNT_RUNS, *extra: str, after=None, seconds: float = 1) -> Step:
    folder = work / name
    return Step(name, f'{name} 단계', ['-c', code, str(folder), *extra], folder, seconds, after=after)


def run(steps, work, jobs=1):
    output = io.StringIO()
    return run_steps(steps, work, jobs=jobs, output=output), output.getvalue()


def test_steps_run_once_and_a_second_call_skips_them(tmp_path):
    steps = [step(tmp_path, 'draw'), step(tmp_path, 'train')]
    seconds, _ = run(steps, tmp_path)
    again, printed = run(steps, tmp_path)
    assert seconds == again and set(seconds) == {'draw', 'train'}
    assert printed.count('finished before') == 2
    assert (tmp_path / 'train' / 'runs').read_text() == 'x'


def test_a_changed_command_empties_its_folder_and_those_of_later_steps(tmp_path):
    run([step(tmp_path, 'a'), step(tmp_path, 'b'), step(tmp_path, 'c')], tmp_path)
    (tmp_path / 'c' / 'old').touch()
    _, printed = run([step(tmp_path, 'a'), step(tmp_path, 'b', COUNT_RUNS, '--more'), step(tmp_path, 'c')], tmp_path)
    assert printed.count('finished before') == 1
    assert not (tmp_path / 'c' / 'old').exists()


def test_a_failed_step_is_named_with_its_log_and_runs_again_in_its_folder(tmp_path):
    fails_once = (
        'import pathlib, sys; p = pathlib.Path(sys.argv[1]) / "half"\n'
        'if not p.exists(): p.touch(); print("error: no room left on the disk", file=sys.stderr); sys.exit(2)'
    )
    steps = [step(tmp_path, 'draw'), step(tmp_path, 'train', fails_once)]
    with pytest.raises(KoviltError) as caught:
        run(steps, tmp_path)
    log = tmp_path / 'logs' / '02_train.log'
    message = f'step 2 of 2 (train) ended with exit code 2: no room left on the disk; its log: {log}'
    assert str(caught.value) == message
    assert 'no room left' in log.read_text()
    assert not json.loads((tmp_path / 'steps' / 'train.json').read_text())['done']
    seconds, printed = run(steps, tmp_path)
    assert printed.count('finished before') == 1 and (tmp_path / 'train' / 'half').exists()


def test_steps_that_do_not_depend_on_each_other_run_at_once(tmp_path):
    last = 'import pathlib, sys; assert all((pathlib.Path(p) / "here").exists() for p in sys.argv[2:])'
    steps = [
        step(tmp_path, 'a', WAIT_FOR_OTHER, 'b', after=()),
        step(tmp_path, 'b', WAIT_FOR_OTHER, 'a', after=()),
        step(tmp_path, 'c', last, str(tmp_path / 'a'), str(tmp_path / 'b')),
    ]
    seconds, _ = run(steps, tmp_path, jobs=2)
    assert list(seconds)[-1] == 'c' and finished_steps(steps, tmp_path) == seconds
    again, printed = run(steps, tmp_path, jobs=2)
    assert again == seconds and printed.count('finished before') == 3


def test_the_step_that_the_longest_chain_waits_for_starts_first(tmp_path):
    append = 'import pathlib, sys; open(pathlib.Path(sys.argv[1]).parent / "order", "a").write(sys.argv[1][-1])'
    steps = [
        step(tmp_path, 'a', append, after=(), seconds=3),
        step(tmp_path, 'b', append, after=()),
        step(tmp_path, 'c', append, after=('b',), seconds=5),
    ]
    wait = (
        'import pathlib, sys, time; order = pathlib.Path(sys.argv[1]).parent / "order"; end = time.monotonic() + 60\n'
        'while time.monotonic() < end and not (order.exists() and len(order.read_text()) == 3): time.sleep(0.01)'
    )
    run([*steps, step(tmp_path, 'd', wait, after=(), seconds=100)], tmp_path, jobs=2)  # which leaves one place
    assert (tmp_path / 'order').read_text() == 'bca'


@pytest.mark.parametrize('jobs', [1, 2])
def test_after_a_failure_the_steps_that_do_not_depend_on_it_still_run(tmp_path, jobs):
    steps = [
        step(tmp_path, 'a', 'import sys; print("error: no data"); sys.exit(2)', after=()),
        step(tmp_path, 'b', after=('a',)),
        step(tmp_path, 'c', 'import time; time.sleep(0.5)', after=()),
        step(tmp_path, 'd', after=('c',)),
    ]
    with pytest.raises(KoviltError, match=r'^step 1 of 4 \(a\) ended with exit code 2: no data; its log: '):
        run(steps, tmp_path, jobs=jobs)
    assert finished_steps(steps, tmp_path).keys() == {'c', 'd'} and not (tmp_path / 'b').exists()


def test_a_changed_command_reruns_the_steps_that_depend_on_it_and_no_others(tmp_path):
    def steps(*more):
        first = step(tmp_path, 'a', COUNT_RUNS, *more, after=())
        return [first, step(tmp_path, 'b', after=()), step(tmp_path, 'c', after=('a',)), step(tmp_path, 'd')]

    run(steps(), tmp_path, jobs=2)
    assert finished_steps(steps('--more'), tmp_path).keys() == {'b'}
    assert finished_steps(steps(), tmp_path).keys() == {'a', 'b', 'c', 'd'}


def test_a_step_whose_output_was_deleted_runs_again(tmp_path):
    steps = [step(tmp_path, 'draw')]
    run(steps, tmp_path)
    (tmp_path / 'draw' / 'runs').unlink()
    (tmp_path / 'draw').rmdir()
    run(steps, tmp_path)
    assert (tmp_path / 'draw' / 'runs').read_text() == 'x'


@pytest.mark.parametrize(
    ('line', 'left'),
    [
        ('Iter(train) [ 100/1000]  lr: 1.0e-4  eta: 0:01:30  time: 0.1  loss: 2.5', 90),
        ('Epoch(train) [1][ 5/10]  eta: 1 day, 0:00:10  loss: 2.5', 86410),
        ('drawing rooms 25/100, 12 images/s', 30),
        ('loss: 2.5', None),
        ('Iter(val) [2/2]    accuracy: 58.0', None),  # of a validation within a training
        ('Iter(val) [50/63]    eta: 0:00:03  accuracy: 58.0', None),
        ('Iter(test) [1/4]    eta: 0:00:30', 30),
        ('11/26 03:56:51 - mmengine - INFO - Saving checkpoint at 500 iterations', None),
        ('wrote 3.5/4.5 of 2026/13.5', None),
    ],
)
def test_time_left_is_read_from_what_the_tools_print(line, left, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    step = StepProgress(60, ['loss'])
    now[0] = 10.0
    step.read(line)
    assert step.seconds_left() == (50 if left is None else left)
    assert step.values == ({'loss': '2.5'} if 'loss' in line else {})
    now[0] = 20.0
    assert step.seconds_left() == (40 if left is None else left - 10)
    now[0] = 1e6
    assert step.seconds_left() == (250_000 if left is None else 1) and 0.79 < step.share() < 1


def test_the_share_that_is_done_never_falls(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    step, shares = StepProgress(10), []
    for second, line in ((9, ''), (40, ''), (50, 'eta: 0:02:00'), (60, 'Iter [1/2]'), (110, ''), (180, '')):
        now[0] = float(second)
        step.read(line)
        shares.append(step.share())
    assert shares == sorted(shares) and shares[1] == 0.8 and shares[-1] > 0.9


def show_step(output, monkeypatch, interval=15.0):
    """What a display shows 10 s, then another `interval` seconds after the start of a step of 60 s."""
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    with StepsDisplay(output, total=3) as display:
        step = StepProgress(60, ['mlm_loss'])
        now[0] = 10.0
        step.read('Iter(train) [1/4] eta: 0:00:30  mlm_loss: 3.25')
        display.update({'[2/3] train 학습': step}, finished=1, later=100)
        display.print('a line')
        now[0] += interval
        display.update({'[2/3] train 학습': step}, finished=1, later=100)
    return output.getvalue()


def test_a_terminal_gets_bars_below_the_lines(monkeypatch):
    output = io.StringIO()
    output.isatty = lambda: True
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '200')
    shown = show_step(output, monkeypatch)
    for words in (
        '[2/3] train 학습',
        '25%',
        '0:30 left',
        'mlm_loss 3.25',
        '1 of 3 steps finished',
        '2:10 left',
        'a line',
    ):
        assert words in shown


def test_a_log_gets_a_line_at_intervals_without_control_characters(monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')
    expected = 'a line\n[2/3] train 학습 62%, 0:15 left, mlm_loss 3.25; everything: 1:55 left\n'
    assert show_step(io.StringIO(), monkeypatch) == expected
    assert show_step(io.StringIO(), monkeypatch, interval=4.0) == 'a line\n'
    dumb = io.StringIO()
    dumb.isatty = lambda: True
    monkeypatch.setenv('TERM', 'dumb')
    assert show_step(dumb, monkeypatch) == expected


def test_format_duration():
    assert [format_duration(9.6), format_duration(600), format_duration(3661)] == ['0:10', '10:00', '1:01:01']


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_signal_ends_the_running_step(tmp_path, jobs):
    program = (
        'import signal, sys; from pathlib import Path; from kovilt.recipes.steps import Step, run_steps\n'
        'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); work = Path(sys.argv[1])\n'
        'code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(60)"\n'
        'step = Step("sleep", "sleep", ["-c", code, str(work / "sleep")], work / "sleep", 60)\n'
        'run_steps([step], work, jobs=int(sys.argv[2]))'
    )
    recipe = subprocess.Popen(
        [sys.executable, '-c', program, str(tmp_path), str(jobs)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while not (started := list(tmp_path.glob('sleep/*'))):
        assert recipe.poll() is None
        time.sleep(0.05)
    recipe.terminate()
    assert recipe.wait() == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(started[0].name), 0)
