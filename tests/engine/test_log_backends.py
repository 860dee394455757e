"""No back end of the logs stops or delays a run: TensorBoard, a server that refuses or hangs, a full disk."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
import types

import pytest
from mmengine.config import Config
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
    [('TensorboardVisBackend', 'tensorboard'), ('WandbVisBackend', 'wandb'), ('MLflowVisBackend', 'mlflow')],
)
@pytest.mark.parametrize('by_option', [False, True])
def test_a_missing_package_is_told_before_the_training(rooms, tmp_path, call, monkeypatch, name, package, by_option):
    for module in ('tensorboard', 'torch.utils.tensorboard', 'wandb', 'mlflow'):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    more = '' if by_option else f"visualizer = dict(vis_backends=[dict(type='{name}')])"
    config = tiny_config(tmp_path / 'tiny.py', steps=1, more=more)
    option = ('--logger', package) if by_option else ()
    code, _, error = call('train', config, '--work-dir', tmp_path / 'work', *option)
    assert (
        code == 2
        and error.startswith(f'error: visualizer: {name} lacks a package')
        and f"pip install 'kovilt[{package}]', or" in error
    )
    assert error.count('\n') == 1 and not (tmp_path / 'work').exists()


def read_tensorboard(folder) -> dict[str, list[int]]:
    """The steps of each curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()['scalars']}


def test_tensorboard_has_the_curves_of_all_starts(rooms, tmp_path, call):
    config, work = tiny_config(tmp_path / 'tiny.py', steps=3), tmp_path / 'work'
    arguments = ['train', config, '--work-dir', work, '--logger', 'tensorboard', '--logger', 'tensorboard']
    assert call(*arguments)[0] == 0
    assert call(*arguments, '--resume', '--cfg-options', 'train_cfg.max_iters=5')[0] == 0
    curves = read_tensorboard(work / 'tensorboard')
    assert curves['train/loss'] == [2, 3, 4, 5] and curves['val/accuracy'] == [3, 5]
    assert len(list(work.rglob('events.out.*'))) == 2
    assert call('test', config, work / 'iter_5.pth', '--logger', 'tensorboard')[0] == 0
    assert read_tensorboard(work / 'test' / 'tensorboard')['test/accuracy'] == [0]


def test_mlflow_has_a_run_for_each_start(rooms, tmp_path, call, monkeypatch):
    mlflow = pytest.importorskip('mlflow', reason="needs MLflow: pip install 'kovilt[mlflow]'")
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    monkeypatch.setattr(log_backends, 'PATIENCE', 300.0)
    config, work = tiny_config(tmp_path / 'tiny.py', steps=3), tmp_path / '실험 1'
    arguments = ['train', config, '--work-dir', work, '--logger', 'mlflow']
    for more in ([], ['--resume', '--cfg-options', 'train_cfg.max_iters=5']):
        code, out, error = call(*arguments, *more)
        assert code == 0 and 'MLflowVisBackend fails' not in out, error + out
    client = mlflow.MlflowClient((work / 'mlflow').as_uri())
    (experiment,) = [found for found in client.search_experiments() if found.name == 'kovilt']
    second, first = client.search_runs([experiment.experiment_id])
    assert first.info.run_name == '실험 1' and first.info.status == second.info.status == 'FINISHED'
    assert first.data.params['optim_wrapper.optimizer.type'] == 'MuonAdamW'
    for run, steps in ((first, [2, 3]), (second, [4, 5])):
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, 'train/loss')] == steps
        assert any(name.startswith('val/accuracy_by_length.') for name in run.data.metrics)


class FakeWandb(types.ModuleType):
    """The calls that MMEngine makes."""

    def __init__(self) -> None:
        super().__init__('wandb')
        self.started, self.logged, self.ended = [], [], 0
        self.config = self.run = self

    def init(self, **options) -> None:
        self.started.append(options)

    def update(self, values, allow_val_change) -> None:
        self.values = values

    def log_code(self, name) -> None:
        pass

    def log(self, values, commit) -> None:
        self.logged.append(values)

    def join(self) -> None:
        self.ended += 1


def test_wandb_gets_the_config_and_the_numbers(rooms, tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', wandb := FakeWandb())
    config, work = tiny_config(tmp_path / 'tiny.py', steps=2), tmp_path / 'mine'
    assert call('train', config, '--work-dir', work, '--logger', 'wandb')[0] == 0
    (options,) = wandb.started
    assert options == {'project': 'kovilt', 'name': 'mine', 'group': 'mine', 'dir': str(work)}
    assert wandb.values['train_cfg']['max_iters'] == 2 and wandb.ended == 1
    assert {'train/loss', 'val/accuracy'} <= {name for values in wandb.logged for name in values}


def test_places_that_a_config_names_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://server')
    backends = [{'type': 'TensorboardVisBackend', 'save_dir': 'mine'}, {'type': 'MLflowVisBackend', 'exp_name': 'mine'}]
    visualizer = {'vis_backends': backends}
    log_backends.complete_backends(visualizer, str(tmp_path / 'run'))
    assert backends[0]['save_dir'] == 'mine'
    assert backends[1]['exp_name'] == 'mine' and backends[1]['tracking_uri'] == 'http://server'
    assert 'artifact_suffix' not in backends[1]  # the server gets the files of the work folder
    config = Config({'visualizer': visualizer})
    log_backends.add_backends(config, ['tensorboard', 'wandb', 'wandb'])
    found = [backend['type'] for backend in config.visualizer.vis_backends]
    assert found == ['TensorboardVisBackend', 'MLflowVisBackend', 'WandbVisBackend']


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
