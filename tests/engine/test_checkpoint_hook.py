"""At every moment of a run there is a complete checkpoint; damaged ones are passed over; others are refused."""

import json
from pathlib import Path

import pytest
import torch

from kovilt.engine.hooks import CheckpointHook
from kovilt.engine.hooks import checkpoint as checkpoint_hook
from kovilt.errors import KoviltError, RunFault
from kovilt.formats.checkpoint import POINTER_FILE, find_checkpoints, load_checkpoint_file

KEEP_TWO = ('default_hooks.checkpoint.max_keep_ckpts=2',)
OPTIONS = {'steps': 6, 'save_every': 2, 'limit': 48, 'drop_rate': 0.1}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.fixture(scope='module')
def finished(build, tmp_path_factory):
    """The folder of a finished run that keeps all checkpoints, and its weights."""
    folder = tmp_path_factory.mktemp('finished')
    runner = build(folder, **OPTIONS)
    runner.train()
    return folder, runner.model.state_dict()


@pytest.fixture
def copied(finished, tmp_path):
    for path in finished[0].iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.parametrize('when', ['before', 'after'])
@pytest.mark.parametrize('background', [True, False])
def test_a_kill_around_a_save_leaves_two_complete_checkpoints(build, finished, tmp_path, monkeypatch, when, background):
    write = checkpoint_hook.write_checkpoint

    def write_and_die(checkpoint, path):
        if path.name == 'iter_6.pth' and when == 'before':
            raise Killed
        write(checkpoint, path)
        if path.name == 'iter_6.pth':
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint_hook, 'write_checkpoint', write_and_die)
        build(tmp_path, options=(*KEEP_TWO, f'default_hooks.checkpoint.background={background}'), **OPTIONS).train()
    complete = [name for name in names(tmp_path) if name.startswith('iter')]
    assert complete == ['iter_2.pth', 'iter_4.pth'] + ['iter_6.pth'] * (when == 'after')
    (tmp_path / '.iter_6.pth.0123.tmp').write_bytes(b'half')
    resumed = build(tmp_path, options=KEEP_TWO, overrides={'resume': 'auto'}, **OPTIONS)
    resumed.train()
    assert all(torch.equal(finished[1][name], value) for name, value in resumed.model.state_dict().items())
    assert [name for name in names(tmp_path) if name.startswith('iter')] == ['iter_4.pth', 'iter_6.pth']
    assert not list(tmp_path.glob('.*.tmp'))
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text('utf-8').splitlines()]
    assert [row['step'] for row in rows if row['mode'] == 'train'] == [1, 2, 3, 4, 5, 6]
    assert [row['step'] for row in rows if row['mode'] == 'val'] == [6]


def test_a_kill_between_the_record_and_the_best_checkpoint_repeats_the_validation(build, tmp_path, monkeypatch):
    write = checkpoint_hook.write_checkpoint

    def die_at_best(checkpoint, path):
        if path.name.startswith('best'):
            raise Killed
        write(checkpoint, path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint_hook, 'write_checkpoint', die_at_best)
        build(tmp_path, options=KEEP_TWO, **OPTIONS).train()
    assert not list(tmp_path.glob('best*'))
    for _ in range(2):  # the second time nothing is left to do
        build(tmp_path, options=KEEP_TWO, overrides={'resume': 'auto'}, **OPTIONS).train()
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text('utf-8').splitlines()]
    assert [row['step'] for row in rows if row['mode'] == 'val'] == [6]
    best = load_checkpoint_file(tmp_path / 'iter_6.pth')['message_hub']['runtime_info']
    assert best['best_score'] == [row['accuracy'] for row in rows if row['mode'] == 'val'][0]
    assert Path(best['best_ckpt']).name == 'best_accuracy_iter_6.pth' in names(tmp_path)


@pytest.mark.parametrize(
    'pointer', [None, b'', b'iter_99.pth', b'/moved/iter_6.pth\r\n', b'\xff\xfe\x00', b'../other/iter_6.pth']
)
def test_any_pointer_leads_to_the_latest_checkpoint(copied, pointer):
    (copied / POINTER_FILE).unlink()
    if pointer is not None:
        (copied / POINTER_FILE).write_bytes(pointer)
    assert [path.name for path in find_checkpoints(copied)] == ['iter_6.pth', 'iter_4.pth', 'iter_2.pth']


def test_the_latest_is_told_by_the_step_inside_not_by_name_or_time(copied):
    (copied / POINTER_FILE).unlink()
    (copied / 'iter_6.pth').rename(copied / 'iter_1.pth')
    assert [path.name for path in find_checkpoints(copied)] == ['iter_1.pth', 'iter_4.pth', 'iter_2.pth']


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == 'bit':
        content[len(content) // 2] ^= 16
    path.write_bytes({'empty': b'', 'half': content[: len(content) // 2]}.get(how, content))


@pytest.mark.parametrize('how', ['empty', 'half', 'bit'])
def test_a_damaged_checkpoint_is_passed_over_and_named(build, copied, finished, capfd, how):
    damage(copied / 'iter_6.pth', how)
    resumed = build(copied, overrides={'resume': 'auto'}, **OPTIONS)
    resumed.train()
    shown = ''.join(capfd.readouterr())
    assert 'iter_6.pth' in shown and 'trying the checkpoint before' in shown and 'resumed epoch: 1, iter: 4' in shown
    assert all(torch.equal(finished[1][name], value) for name, value in resumed.model.state_dict().items())


def test_all_damaged_is_told(build, copied):
    for path in copied.glob('iter_*.pth'):
        damage(path, 'half')
    with pytest.raises(KoviltError, match='none of its 3 checkpoints can be read; start anew in another folder'):
        build(copied, overrides={'resume': 'auto'}, **OPTIONS).train()


def without(key):
    return lambda checkpoint: checkpoint.pop(key)


def misshapen(checkpoint):
    state = next(iter(checkpoint['optimizer']['state'].values()))
    name = next(name for name, value in state.items() if value.ndim)
    state[name] = state[name][:1].clone()


@pytest.mark.parametrize(
    'change, message',
    [
        (without('optimizer'), 'has no optimizer; start from it: --load-from'),
        (without('param_schedulers'), 'has no param_schedulers; start from it: --load-from'),
        (lambda checkpoint: checkpoint['meta'].pop('iter'), 'has no iter'),
        (lambda checkpoint: checkpoint['param_schedulers'].pop(), 'other schedules than param_scheduler'),
        (lambda checkpoint: checkpoint['optimizer']['param_groups'].pop(), 'other parameter groups'),
        (misshapen, 'the state of its optimizer does not fit the parameters'),
    ],
)
def test_an_incomplete_checkpoint_is_not_resumed_from(build, finished, tmp_path, change, message):
    checkpoint = load_checkpoint_file(finished[0] / 'iter_4.pth')
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    overrides = {'resume': True, 'load_from': str(tmp_path / 'iter_4.pth')}
    with pytest.raises(KoviltError, match=message):
        build(tmp_path / 'run', overrides=overrides, **OPTIONS).train()


def test_a_best_checkpoint_is_not_resumed_from(build, finished, tmp_path):
    best = next(finished[0].glob('best_*.pth'))
    with pytest.raises(KoviltError, match='has no optimizer'):
        build(tmp_path / 'run', overrides={'resume': True, 'load_from': str(best)}, **OPTIONS).train()


def test_weights_that_are_not_finite_are_not_saved(build, tmp_path):
    runner = build(tmp_path, **OPTIONS)
    next(runner.model.parameters()).data[0] = float('nan')
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    with pytest.raises(RunFault, match='is NaN or infinite, so no checkpoint is written'):
        runner.save_checkpoint(str(tmp_path), 'iter_1.pth', save_optimizer=False, save_param_scheduler=False)
    assert not names(tmp_path)


def test_one_checkpoint_is_too_few(build):
    runner = build(options=('default_hooks.checkpoint.max_keep_ckpts=1',), **OPTIONS)
    with pytest.raises(KoviltError, match='max_keep_ckpts is 1; the last one may be damaged: keep 2 or -1'):
        runner.train()


def test_the_hook_replaces_mmengines(build):
    assert any(type(hook) is CheckpointHook for hook in build(**OPTIONS).hooks)
