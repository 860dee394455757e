"""Checkpoints are written beside the training; what cannot be written or loaded ends a run in one line, saved."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from kovilt.engine.checkpoint_writer import CheckpointWriter
from kovilt.engine.hooks import checkpoint as checkpoint_hook
from kovilt.engine.hooks import run_record
from kovilt.engine.interruption import HeldSignal
from kovilt.engine.run_files import RunFiles
from kovilt.errors import KoviltError, RunFault
from kovilt.files import append_text
from kovilt.formats.checkpoint import find_checkpoints, load_checkpoint_file

EMA = "default_hooks['ema'] = dict(type='EMAHook', momentum=0.1)"
OPTIONS = {'steps': 6, 'save_every': 2, 'limit': 48, 'drop_rate': 0.1, 'more': EMA}
RARELY = {**OPTIONS, 'save_every': 100}
WARN = ("on_save_error='warn'",)


@pytest.fixture(scope='module')
def whole(build, tmp_path_factory):
    """The folder of a run that nothing disturbs, written without a thread, and its weights."""
    folder = tmp_path_factory.mktemp('whole')
    runner = build(folder, options=('default_hooks.checkpoint.background=False',), **OPTIONS)
    runner.train()
    return folder, runner.model.state_dict()


def same(whole, runner):
    return all(torch.equal(whole[1][name], value) for name, value in runner.model.state_dict().items())


def rows(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text('utf-8').splitlines()]


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


class At(Hook):
    """Calls something before a step, counted from 1, when the checkpoint before is complete."""

    priority = 'VERY_HIGH'

    def __init__(self, step, action, is_patient=True):
        self.step, self.action, self.is_patient = step, action, is_patient

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            if self.is_patient:
                runner.writer.wait()
            self.action()


# In the background


def test_the_training_goes_on_while_a_checkpoint_is_written(build, whole, tmp_path, monkeypatch):
    """The file holds the state of its step although the parameters have changed since."""
    write, went_on = checkpoint_hook.write_checkpoint, threading.Event()

    def write_late(checkpoint, path):
        if path.name == 'iter_2.pth':
            assert went_on.wait(60) and threading.current_thread() is not threading.main_thread()
        write(checkpoint, path)

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', write_late)
    runner = build(tmp_path, **OPTIONS)
    runner.register_hook(At(4, went_on.set, is_patient=False))
    runner.train()
    assert same(whole, runner) and names(tmp_path) == names(whole[0])
    for name in names(tmp_path):
        ours, theirs = (load_checkpoint_file(folder / name) for folder in (tmp_path, whole[0]))
        for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
            assert equal(ours.get(key), theirs.get(key)), (name, key)


def test_a_copy_shares_nothing_with_what_it_was_made_of(tmp_path):
    writer, written = CheckpointWriter(RunFiles(tmp_path)), []
    live = {'state_dict': {'a': torch.zeros(3)}, 'optimizer': {'state': {0: {'step': torch.tensor(1.0)}}, 'lr': [0.1]}}
    with writer:
        for _ in range(2):
            writer.submit({**live, 'meta': {}}, written.append, name='x.pth')
            writer.wait()
            live['state_dict']['a'] += 1
            live['optimizer']['state'][0]['step'] += 1
            live['optimizer']['lr'][0] = 0.2
            assert written[-1]['state_dict']['a'].sum() == 3 * (len(written) - 1)
            assert written[-1]['optimizer']['state'][0]['step'] == len(written)
    assert written[0]['optimizer']['lr'] == [0.1]
    assert written[0]['state_dict']['a'] is written[1]['state_dict']['a']  # the memory of one copy serves all


def test_weights_that_are_not_finite_end_the_run_before_they_are_written(tmp_path):
    written = []
    with pytest.raises(RunFault, match='step 3: a is NaN or infinite'), CheckpointWriter(RunFiles(tmp_path)) as writer:
        checkpoint = {'state_dict': {'a': torch.full((1,), torch.nan)}, 'meta': {'iter': 3}}
        writer.submit(checkpoint, written.append, name='x.pth')
    assert not written


# Files that cannot be written


@pytest.fixture
def small_disk():
    """Files of this process may have 60,000 bytes: records fit, checkpoints do not. Calling it lifts the limit."""

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    yield limit
    limit(resource.RLIM_INFINITY)


@pytest.mark.parametrize('background', [True, False])
def test_a_full_disk_ends_the_run_in_one_line(build, whole, tmp_path, small_disk, background):
    options = (f'default_hooks.checkpoint.background={background}',)
    runner = build(tmp_path, options=options, **OPTIONS)
    runner.register_hook(At(4, lambda: small_disk(60_000)))
    with pytest.raises(RunFault) as caught:
        runner.train()
    small_disk(resource.RLIM_INFINITY)
    assert str(caught.value) == (
        f'{tmp_path}/iter_4.pth: cannot be written (File too large); {tmp_path}/iter_2.pth is safe; make room or mend '
        'the folder, then repeat the command with --resume'
    )
    assert names(tmp_path) == ['iter_2.pth'] and not list(tmp_path.glob('.*'))
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **OPTIONS)
    resumed.train()
    assert same(whole, resumed) and [row['step'] for row in rows(tmp_path) if row['mode'] == 'train'] == [*range(1, 7)]


def test_with_warn_the_run_goes_on_and_keeps_what_it_has(build, whole, tmp_path, small_disk, capfd):
    """Two failures do not push the two complete checkpoints out of those that are kept."""
    options = {**OPTIONS, 'save_every': 1}
    runner = build(tmp_path, options=(*WARN, 'default_hooks.checkpoint.max_keep_ckpts=2'), **options)
    runner.register_hook(At(3, lambda: small_disk(60_000)))
    runner.register_hook(At(6, lambda: small_disk(resource.RLIM_INFINITY)))
    kept = []
    runner.register_hook(At(6, lambda: kept.extend(names(tmp_path))))
    runner.train()
    assert kept[:2] == ['iter_1.pth', 'iter_2.pth'] and same(whole, runner)
    assert names(tmp_path) == ['best_accuracy_iter_6.pth', 'iter_2.pth', 'iter_6.pth']
    assert ''.join(capfd.readouterr()).count('cannot be written (File too large); the training goes on') == 3


def test_a_best_checkpoint_that_was_not_written_is_not_recorded(build, tmp_path, monkeypatch):
    write = checkpoint_hook.write_checkpoint

    def fail_once(checkpoint, path):
        write(checkpoint, path)
        if path.name == 'iter_2.pth' and checkpoint['message_hub']['runtime_info'].get('best_score'):
            monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', write)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', fail_once)
    options = {**OPTIONS, 'more': 'train_cfg["val_interval"] = 2'}
    runner = build(tmp_path, options=WARN, **options)
    runner.register_hook(At(4, lambda: seen.update(runner.message_hub.runtime_info)))
    seen = {}
    runner.train()
    assert 'best_score' not in seen and Path(runner.message_hub.get_info('best_ckpt')).is_file()
    assert len([name for name in names(tmp_path) if name.startswith('best')]) == 1


@pytest.mark.parametrize('options', [(), WARN])
def test_the_record_has_no_holes_and_no_torn_lines(build, tmp_path, monkeypatch, options, capfd):
    def fail(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    runner = build(tmp_path, options=options, **RARELY)
    runner.register_hook(At(3, lambda: monkeypatch.setattr(run_record, 'append_text', fail)))
    runner.register_hook(At(5, lambda: monkeypatch.setattr(run_record, 'append_text', append_text)))
    if options:
        runner.train()
        assert [row['step'] for row in rows(tmp_path) if row['mode'] == 'train'] == [*range(1, 7)]
        assert ''.join(capfd.readouterr()).count('metrics.jsonl: cannot be written (No space') == 1
    else:
        with pytest.raises(RunFault, match=r'metrics.jsonl: cannot be written \(No space left on device\); no checkpo'):
            runner.train()
        assert [row['step'] for row in rows(tmp_path)] == [1, 2]


def test_a_text_is_appended_whole_or_not_at_all(tmp_path, small_disk):
    (tmp_path / 'x').write_text('a' * 59_990)
    small_disk(60_000)
    with pytest.raises(OSError, match='File too large'):
        append_text(tmp_path / 'x', 'b' * 20)
    assert (tmp_path / 'x').stat().st_size == 59_990
    append_text(tmp_path / 'x', '끝\n')
    assert (tmp_path / 'x').read_text('utf-8').endswith('a끝\n')


@pytest.mark.parametrize('options', [(), (*WARN, "visualizer={'type': 'Visualizer'}")])  # without files of its own
def test_a_folder_that_is_gone_is_told(build, tmp_path, options, capfd):
    runner = build(tmp_path / 'run', options=options, **OPTIONS)
    runner.register_hook(At(3, lambda: shutil.rmtree(tmp_path / 'run')))
    with pytest.raises(RunFault, match='cannot be written .the work folder is gone.; no checkpoint is there yet'):
        runner.train()
    if options:  # the last checkpoint has no later one that could take its place
        assert runner.iter == 6
        shown = ''.join(capfd.readouterr())
        assert shown.count('iter_4.pth: cannot be written (the work folder is gone); the training goes on') == 1
    assert not (tmp_path / 'run').exists()


# Data that cannot be loaded


def break_loading(dataset, batch, action):
    """Calls `action` when a process loads its batch of this number, counted from 1."""
    load, count = dataset.__getitems__, 0

    def load_or_break(indices):
        nonlocal count
        count += 1
        if count == batch:
            action()
        return load(indices)

    dataset.__getitems__ = load_or_break


def fail(error):
    raise error


def test_a_killed_worker_leaves_a_checkpoint_of_the_last_step(build, whole, tmp_path):
    options = ('train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=False')
    runner = build(tmp_path, options=options, **RARELY)
    dataset = runner._train_dataloader.dataset
    break_loading(dataset, 5, lambda: os.kill(os.getpid(), signal.SIGKILL))  # two batches are loaded in advance
    with pytest.raises(
        RunFault, match=r'^worker 0 of the data loader .*; the run is saved up to step [234] in .*--resume$'
    ):
        runner.train()
    assert len(names(tmp_path)) == 1 and find_checkpoints(tmp_path)
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **RARELY)
    resumed.train()
    assert same(whole, resumed) and [row['step'] for row in rows(tmp_path) if row['mode'] == 'train'] == [*range(1, 7)]


class KillWorker(Hook):
    """Kills the loader's worker in the middle of a step, and waits until this process was told of it."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 2:
            (worker,) = multiprocessing.active_children()
            worker.kill()
            worker.join()


def test_the_death_of_a_worker_during_a_step_is_told_in_one_line(build, tmp_path):
    options = ('train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=False')
    runner = build(tmp_path, options=options, **RARELY)
    runner.register_hook(KillWorker())
    with pytest.raises(RunFault, match=r'^worker 0 of the data loader .* SIGKILL .*; the run is saved up to step 3 in'):
        runner.train()


@pytest.mark.parametrize(
    'error, told',
    [
        (KoviltError('5 of 12 images cannot be read'), '^5 of 12 images cannot be read; the run is saved up to step 3'),
        (ValueError('a bug'), '^a bug$'),
    ],
)
def test_an_error_of_the_data_leaves_a_checkpoint(build, whole, tmp_path, error, told):
    runner = build(tmp_path, **RARELY)
    break_loading(runner._train_dataloader.dataset, 4, lambda: fail(error))
    with pytest.raises(type(error), match=told):
        runner.train()
    assert names(tmp_path) == ['iter_3.pth']
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **RARELY)
    resumed.train()
    assert same(whole, resumed)


def test_an_error_before_the_first_step_leaves_nothing(build, tmp_path):
    runner = build(tmp_path / 'run', **RARELY)
    break_loading(runner._train_dataloader.dataset, 1, lambda: fail(KoviltError('no image can be read')))
    with pytest.raises(KoviltError, match='^no image can be read$'):
        runner.train()
    assert not (tmp_path / 'run').exists()


def test_a_refused_run_leaves_the_log_of_a_run_that_began_in_the_same_second(build, tmp_path, monkeypatch):
    """Each run is as the first of its process, as it is when a resumed run follows at once."""
    monkeypatch.setattr('mmengine.runner.runner.time.strftime', lambda *arguments: '20261129_180000')
    used = Counter()
    monkeypatch.setattr('kovilt.engine.runner._USED_TIMESTAMPS', used)
    first = build(tmp_path, **RARELY)
    first.train()
    files = {path: path.read_bytes() for path in Path(first.log_dir).rglob('*') if path.is_file()}
    assert any(path.suffix == '.log' for path in files)
    used.clear()
    second = build(tmp_path, **RARELY)
    with pytest.raises(KoviltError, match='holds an earlier run'):
        second.train()
    assert {path: path.read_bytes() for path in files} == files
    assert not Path(second.log_dir).exists()


def test_an_error_of_the_validation_leaves_a_checkpoint_of_the_trained_weights(build, whole, tmp_path):
    """Not of their averages, which stand in their place meanwhile."""
    runner = build(tmp_path, **{**RARELY, 'more': f'{EMA}\ntrain_cfg["val_interval"] = 3'})
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    break_loading(runner._val_loop.dataloader.dataset, 1, lambda: fail(ValueError('a bug')))
    with pytest.raises(ValueError, match='a bug'):
        runner.train()
    assert names(tmp_path) == ['iter_3.pth']
    resumed = build(tmp_path, overrides={'resume': 'auto'}, **RARELY)
    resumed.train()
    assert same(whole, resumed)


def test_a_held_signal_waits_for_its_release():
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with HeldSignal(signal.SIGUSR2) as held:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not seen
            with held.released():
                assert len(seen) == 1
                os.kill(os.getpid(), signal.SIGUSR2)
            assert len(seen) == 2
        os.kill(os.getpid(), signal.SIGUSR2)
        assert len(seen) == 3
    finally:
        signal.signal(signal.SIGUSR2, before)
