"""A signal or a time limit ends a training after a step, saved; --resume continues it as if nothing had happened."""

import json
import os
import signal

import pytest
import torch
from mmengine.hooks import Hook

from kovilt.engine.hooks.interrupt import parse_time
from kovilt.engine.interruption import Interruption, SignalWatch

EMA = "default_hooks['ema'] = dict(type='EMAHook', momentum=0.1)"
STEPS = {'steps': 6, 'save_every': 4, 'limit': 48, 'drop_rate': 0.1, 'more': EMA}  # an epoch has 3 steps
EPOCHS = {'epochs': 2, 'save_every': 1, 'limit': 48, 'drop_rate': 0.1, 'more': EMA}


class SendSignal(Hook):
    """Sends a signal to this process before a step (counted from 1), or in the validation after it."""

    def __init__(self, step, number=signal.SIGTERM, in_validation=False):
        self.step, self.number, self.in_validation = step, number, in_validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step and not self.in_validation:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step and self.in_validation:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope='module')
def whole(build, tmp_path_factory):
    """By unit: the weights and the record of a run without interruption."""
    results = {}
    for name, options in (('steps', STEPS), ('epochs', EPOCHS)):
        work_dir = tmp_path_factory.mktemp(name)
        runner = build(work_dir, **options)
        runner.train()
        results[name] = runner.model.state_dict(), record(work_dir)
    return results


def record(work_dir):
    rows = map(json.loads, (work_dir / 'metrics.jsonl').read_text('utf-8').splitlines())
    times = ('time', 'epoch_seconds', 'texts_per_second', 'peak_memory_mb')
    return [{key: value for key, value in row.items() if key not in times} for row in rows if row['mode'] != 'epoch']


@pytest.mark.parametrize(
    'options, step, in_validation',
    [(STEPS, 1, False), (STEPS, 4, False), (STEPS, 6, True), (EPOCHS, 2, False), (EPOCHS, 3, False), (EPOCHS, 6, True)],
    ids=lambda value: '' if isinstance(value, dict) else str(value),
)
def test_the_resumed_run_equals_one_without_interruption(build, whole, tmp_path, options, step, in_validation):
    runner = build(tmp_path, **options)
    runner.register_hook(SendSignal(step, in_validation=in_validation))
    with pytest.raises(Interruption, match=f'SIGTERM: the run is saved up to step {step} in .*; --resume continues'):
        runner.train()
    assert Interruption.exit_code == 75
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **options)
    resumed.train()
    weights, rows = whole['epochs' if 'epochs' in options else 'steps']
    assert all(torch.equal(weights[name], value) for name, value in resumed.model.state_dict().items())
    assert record(tmp_path) == rows


def test_an_interruption_in_the_first_step_leaves_its_checkpoint_in_a_new_folder(build, tmp_path):
    """The folder that a run has created is removed when bad input stops the run before its first step."""
    runner = build(tmp_path / 'new', **STEPS)
    runner.register_hook(SendSignal(1))
    with pytest.raises(Interruption):
        runner.train()
    assert (tmp_path / 'new' / 'iter_1.pth').is_file()


def test_a_damaged_file_of_the_step_is_not_taken_for_its_checkpoint(build, whole, tmp_path):
    """After a fall-back to an earlier checkpoint the damaged later one is still there."""
    (tmp_path / 'iter_2.pth').write_bytes(b'damaged')
    runner = build(tmp_path, overrides={'resume': True}, **STEPS)
    runner._find_resumable = lambda: None  # as if every earlier one were damaged: the run starts from its beginning
    runner.register_hook(SendSignal(2))
    with pytest.raises(Interruption, match='up to step 2'):
        runner.train()
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **STEPS)
    resumed.train()
    weights, rows = whole['steps']
    assert all(torch.equal(weights[name], value) for name, value in resumed.model.state_dict().items())
    assert record(tmp_path) == rows


def test_the_time_limit_ends_the_run(build):
    runner = build(steps=3, save_every=9, limit=48, options=("default_hooks.interrupt.max_time='0:00:00'",))
    with pytest.raises(Interruption, match='max_time: the run is saved up to step 1'):
        runner.train()


def test_a_second_ctrl_c_ends_at_once_and_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with pytest.raises(KeyboardInterrupt), SignalWatch() as watch:
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.received == 'SIGINT'
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_time_is_hours_minutes_seconds():
    assert parse_time('100:01:02') == 360062
    for wrong in ('90', '1:60:00', '1h', '-1:00:00'):
        with pytest.raises(ValueError, match='not of the form'):
            parse_time(wrong)
