"""No back end of the logs stops or delays a run: TensorBoard, a server that refuses or hangs, a full disk."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading

import pytest
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend
from tiny_rooms import tiny_config

from kovilt.engine import log_backends
from kovilt.engine.log_backends import GuardedBackend, guard_log_files, is_hanging

RELEASE = threading.Event()  # lets the back ends that hang go on

ERRORS = {'refuse': ConnectionError, 'exit': SystemExit, 'disk': OSError, 'hang': RuntimeError, 'other': RuntimeError}


@VISBACKENDS.register_module(force=True)
class StubbornBackend(BaseVisBackend):
    """Fails in one of its methods, in one of several ways."""

    def __init__(self, save_dir: str, method: str, how: str) -> None:
        super().__init__(save_dir)
        self.method, self.how, self.seen, self.threads = method, how, [], set()

    def __getattribute__(self, name: str):
        value = super().__getattribute__(name)
        if not name.startswith(('add_', 'close')):
            return value

        def call(*args, **kwargs):
            self.seen.append(name)
            self.threads.add(threading.get_ident())
            if name != self.method:
                return
            if self.how == 'hang':
                RELEASE.wait()
            raise ERRORS[self.how]('no\nmore')

        return call

    @property
    def experiment(self) -> str:
        return 'the object of the library'

    def _init_env(self) -> None:
        pass


@pytest.fixture
def warnings_of(monkeypatch):
    """The lines that were logged as warnings."""
    lines = []
    monkeypatch.setattr(log_backends, 'print_log', lambda line, *_: lines.append(line))
    return lines


def test_a_training_goes_on_with_one_warning_a_back_end(build, warnings_of, monkeypatch):
    monkeypatch.setattr(log_backends, 'PATIENCE', 0.05)
    RELEASE.clear()
    failures = [
        *(('add_config', 'refuse'), ('add_config', 'hang'), ('add_scalars', 'disk'), ('add_scalars', 'exit')),
        *(('add_scalars', 'hang'), ('close', 'other'), ('close', 'hang')),
    ]
    kind = {'type': 'StubbornBackend', 'save_dir': ''}
    backends = [{**kind, 'name': f'{method} {how}', 'method': method, 'how': how} for method, how in failures]
    runner = build(steps=3, more=f'visualizer = dict(vis_backends={backends})')
    runner.train()
    assert runner.iter == 3 and is_hanging()
    assert sorted(line.partition(' fails (')[0] for line in warnings_of) == sorted(part['name'] for part in backends)
    assert not any('\n' in line for line in warnings_of)
    RELEASE.set()
    for part in backends:
        guarded = runner.visualizer.get_backend(part['name'])
        assert guarded.experiment == 'the object of the library'
        assert guarded.seen.count(part['method']) == 1
        assert len(guarded.threads) == 1 and threading.get_ident() not in guarded.threads


def test_it_is_tried_again_later(warnings_of, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(log_backends.time, 'monotonic', lambda: now)
    guarded = GuardedBackend(StubbornBackend('', 'add_scalar', 'refuse'), 'mine')
    for minutes, calls in ((0, 1), (0.9, 1), (1.1, 2), (2.9, 2), (3.2, 3)):
        now = 1000.0 + 60 * minutes
        guarded.add_scalar('loss', 1.0)
        assert guarded.seen.count('add_scalar') == calls
    guarded._backend.method = ''
    now += 3600
    guarded.add_scalar('loss', 1.0)
    assert warnings_of[1:] == ['mine logs again; 5 calls were lost']


@pytest.mark.parametrize(
    'name, package',
    [('TensorboardVisBackend', "'kovilt[tensorboard]'"), ('WandbVisBackend', 'wandb'), ('MLflowVisBackend', 'mlflow')],
)
def test_a_missing_package_is_told_before_the_training(rooms, tmp_path, call, monkeypatch, name, package):
    for module in ('tensorboard', 'torch.utils.tensorboard', 'wandb', 'mlflow'):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    config = tiny_config(tmp_path / 'tiny.py', steps=1, more=f"visualizer = dict(vis_backends=[dict(type='{name}')])")
    code, _, error = call('train', config, '--work-dir', tmp_path / 'work')
    assert (
        code == 2
        and error.startswith(f'error: visualizer: {name} lacks a package')
        and f'pip install {package}, or' in error
    )
    assert error.count('\n') == 1 and not (tmp_path / 'work').exists()


@pytest.fixture
def no_more_than(monkeypatch):
    """Lets no file of this process grow beyond some bytes, which is an OSError as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.filterwarnings('error::pytest.PytestUnhandledThreadExceptionWarning')
@pytest.mark.parametrize('name', ['TensorboardVisBackend', 'LocalVisBackend'])
def test_a_disk_that_is_full_costs_one_warning(tmp_path, warnings_of, no_more_than, name):
    guarded = GuardedBackend(VISBACKENDS.build({'type': name, 'save_dir': str(tmp_path)}), name)
    guarded.add_scalars({'loss': 1.0}, step=1)
    no_more_than(200)
    for step in range(2, 20):
        guarded.add_scalars({'loss': 1.0}, step=step)
    guarded.close()
    no_more_than(resource.RLIM_INFINITY)
    assert len(warnings_of) == 1 and warnings_of[0].startswith(f'{name} fails (OSError')
    guarded._next_try = 0.0
    guarded.add_scalars({'loss': 1.0}, step=20)
    assert warnings_of[1].startswith(f'{name} logs again')
    guarded.close()


def test_a_log_file_that_cannot_grow_costs_one_line(tmp_path, capsys, no_more_than):
    logger = logging.Logger('run')
    logger.addHandler(logging.FileHandler(tmp_path / 'run.log', encoding='ascii'))
    guard_log_files(logger)
    logger.info('소파 1')
    no_more_than(20)
    for _ in range(3):
        logger.info('의자 2')
    no_more_than(resource.RLIM_INFINITY)
    assert capsys.readouterr().err == f'warning: {tmp_path}/run.log: cannot be written ([Errno 27] File too large)\n'
    logger.handlers[0].close()
    assert (tmp_path / 'run.log').read_text('utf-8').startswith('소파 1\n')
