"""A run writes few lines before its first step, and draws bars on a terminal; its log file holds everything."""

from __future__ import annotations

import logging
import re
import sys

import pytest
from mmengine.hooks import Hook
from tiny_rooms import tiny_config

from kovilt.engine.console import FILE_ONLY, PROGRESS, RunConsole
from kovilt.engine.hooks import run_logger
from kovilt.errors import RunFault

OF_MMENGINE = ('System environment', 'Config:', 'Hooks will be executed')


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Makes stdout a terminal when it is called: pytest replaces stdout between a fixture and its test."""
    for name in ('TTY_COMPATIBLE', 'TTY_INTERACTIVE', 'NO_COLOR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '120')
    return lambda: monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)


class Telling(Hook):
    """Writes in every way while the bars are drawn, and can fail."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        runner.logger.warning(f'소파 {runner.iter}')
        runner.logger.info(f'의자 {runner.iter}')
        print(f'책 {runner.iter}')
        if self.fails:
            raise RunFault('no more')


def lines_before_training(out: str) -> int:
    return next(number for number, line in enumerate(out.splitlines()) if 'Iter(train)' in line)


def read_log(folder) -> str:
    (log,) = folder.glob('*/*.log')
    return log.read_text('utf-8')


def test_a_terminal_has_bars_and_the_lines_above_them(build, tmp_path, terminal, capsys):
    terminal()
    runner = build(tmp_path, steps=3, limit=48, save_every=10)
    runner.register_hook(Telling())
    stdout = sys.stdout
    runner.train()
    shown = capsys.readouterr().out
    assert sys.stdout is stdout and all(handler.stream is not sys.stderr for handler in runner.logger.handlers)
    for text in (
        'epoch 1/1',
        '3/3',
        ' left',
        'loss ',
        'vqa_accuracy ',
        ' samples/s',
        'data ',
        ' MB',
        'validation',
        '1/1',
    ):
        assert text in shown, text
    for step in range(3):
        assert all(f'{word} {step}' in shown for word in ('소파', '의자', '책'))
    assert (
        'Iter(train)' not in shown
        and shown.count('Iter(val)') == 1
        and 'Exp name' not in shown
        and 'answer type' in shown
    )
    assert shown.rfind('\x1b[?25l') < shown.rfind('\x1b[?25h')  # the cursor is there, also for a run that is killed
    assert shown.index('\x1b[?25h') < shown.index('소파 0')
    log = read_log(tmp_path)
    assert 'Iter(train) [3/3]' in log and all(text in log for text in (*OF_MMENGINE, 'Exp name')) and '\x1b' not in log


def test_a_run_that_fails_leaves_the_terminal_in_order(build, terminal, capsys):
    terminal()
    runner = build(steps=3, limit=48)
    runner.register_hook(Telling(fails=True))
    stdout = sys.stdout
    with pytest.raises(RunFault, match='no more'):
        runner.train()
    assert sys.stdout is stdout and runner.console._bars is None
    runner.logger.info('afterwards')
    assert capsys.readouterr().out.endswith('afterwards\n')


def test_a_pipe_has_plain_lines_and_few_before_the_first_step(rooms, tmp_path, call, monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')  # which rich would trust
    config = tiny_config(tmp_path / 'tiny.py', steps=3)
    arguments = ['train', config, '--work-dir', tmp_path / 'work', '--cfg-options', 'val_dataloader.batch_size=8']
    arguments.append('default_hooks.logger.interval=1')
    code, out, _ = call(*arguments)
    assert code == 0
    lines = out.splitlines()
    assert (
        lines_before_training(out) <= 20
        and not any(text in out for text in OF_MMENGINE)
        and '\r' not in out
        and '\x1b[?' not in out
    )
    for line in (line for line in lines if 'Iter(train)' in line):
        assert re.search(
            r'\[\d/3\] .* eta: \S+ .* data_time: \S+  .*loss: \S+ .*vqa_accuracy: \S+  .*samples/s: \d+  memory: \d+  '
            r'epoch: 1/\d+$',
            line,
        ), line
    (result,) = [line for line in lines if 'Iter(val)' in line]
    assert ' accuracy: ' in result and 'answer type' in out
    log = read_log(tmp_path / 'work')
    assert all(text in log for text in OF_MMENGINE) and log.count('Iter(val)') > 2

    monkeypatch.setattr(run_logger, 'SIGN_OF_LIFE', 0.0)
    code, out, _ = call('test', config, tmp_path / 'work' / 'iter_3.pth', *arguments[4:])
    assert code == 0 and not any(text in out for text in OF_MMENGINE) and 'Iter(test) [2/' in out
    code, out, _ = call(*arguments, 'train_cfg.max_iters=4', '--resume')
    assert code == 0 and out.count('Iter(val)') > 2 and lines_before_training(out) <= 20


def test_a_test_has_a_bar_too(build, tmp_path, call, terminal):
    terminal()
    build(tmp_path / 'run', steps=1, limit=48).train()
    config = tiny_config(tmp_path / 'tiny.py', steps=1)
    code, out, _ = call('test', config, tmp_path / 'run' / 'iter_1.pth')
    assert code == 0 and 'test ' in out and ' samples/s' in out and 'answer type' in out
    assert out.endswith(f'{tmp_path}/run/test/metrics.json\n')


def test_what_reaches_the_console(terminal, capsys, monkeypatch):
    terminal()
    logger = logging.Logger('run')
    logger.addHandler(logging.StreamHandler(sys.stdout))
    assert not RunConsole(logger, is_first=False).draws
    console = RunConsole(logger, is_first=True)

    def shown() -> str:
        logger.info('line')
        logger.info('of\ntwo')
        logger.info('progress', extra=PROGRESS)
        logger.info('file', extra=FILE_ONLY)
        logger.warning('warning\nof two', extra=FILE_ONLY)
        return capsys.readouterr().out

    assert shown() == 'line\nof\ntwo\nprogress\nwarning\nof two\n'
    console.advance('train', 'epoch 1/1', 0, 10, None, 'loss 1')
    during = shown()
    assert 'progress' not in during and 'file' not in during and 'of two' in during and 'loss 1' in during
    console.advance('train', 'epoch 1/1', 1, 10, 5.0)
    assert '1/10' not in capsys.readouterr().out  # too soon after the last drawing
    console.advance('train', 'epoch 1/1', 10, 10, 0.0)
    assert '10/10' in capsys.readouterr().out
    console.close()
    assert 'progress' in shown()
    monkeypatch.setenv('TERM', 'dumb')
    assert not RunConsole(logger, is_first=True).draws
