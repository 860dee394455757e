"""A checkpoint from a stranger that a run is told to resume runs no code and deletes nothing."""

import copy

import pytest
import torch
from tiny_rooms import tiny_config

from kovilt.engine.checkpoints import check_resumable
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import load_checkpoint_file
from kovilt.registry import RUNNERS

BEST = "default_hooks.checkpoint.save_best='accuracy'", "default_hooks.checkpoint.rule='greater'"


def train(config, work_dir, *options, **overrides):
    runner = RUNNERS.build(load_config(config, [*BEST, *options], dict(work_dir=str(work_dir), **overrides)))
    runner.train()
    return runner


@pytest.fixture(scope='module')
def run(rooms, tmp_path_factory):
    """A config of two steps and a checkpoint after the first."""
    folder = tmp_path_factory.mktemp('run')
    config = tiny_config(folder / 'config.py', steps=2, more='train_cfg = dict(_delete_=True, type="StepTrainLoop", '
                         'max_iters=2, val_interval=1)')  # fmt: skip
    runner = train(config, folder / 'first', 'train_cfg.max_iters=1')
    return config, torch.load(folder / 'first/iter_1.pth', weights_only=True), runner


@pytest.fixture
def resume(run, tmp_path):
    """Resumes from the checkpoint, in which something has been changed."""
    config, content, _ = run

    def resume(change, *options):
        changed = copy.deepcopy(content)
        change(changed)
        torch.save(changed, tmp_path / 'stranger.pth')
        return train(config, tmp_path / 'work', *options, resume=True, load_from=str(tmp_path / 'stranger.pth'))

    return resume


def test_a_whole_checkpoint_is_resumed(resume):
    assert resume(lambda content: None).iter == 2


def test_the_text_of_an_older_mmengine_config_is_not_run(resume, tmp_path):
    """MMEngine runs `meta.config` as a Python program when a run is resumed."""
    program = f'open({str(tmp_path / "mark")!r}, "w")\ngpu_ids = [0]\n'
    assert resume(lambda content: content['meta'].update(config=program)).iter == 2
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('name', ['holiday', 'holiday/cat.jpg'])
def test_files_that_a_checkpoint_calls_its_former_best_are_not_deleted(resume, tmp_path, name):
    """MMEngine removes `best_ckpt`, a file or a whole folder, when a better checkpoint is there."""
    (tmp_path / 'holiday').mkdir()
    (tmp_path / 'holiday/cat.jpg').touch()
    info = dict(best_ckpt=str(tmp_path / name), best_score=-1.0, last_ckpt=str(tmp_path / name), keep_ckpt_ids=['../x'])
    hub = dict(log_scalars={}, runtime_info=info, resumed_keys=dict.fromkeys(info, True))
    runner = resume(lambda content: content.update(message_hub=hub))
    assert (tmp_path / 'holiday/cat.jpg').exists()
    assert list((tmp_path / 'work').glob('best_accuracy_*.pth')) and runner.iter == 2


CHANGES = {
    'no epoch': lambda content: content['meta'].pop('epoch'),
    'no iter': lambda content: content['meta'].pop('iter'),
    'iter as text': lambda content: content['meta'].update(iter='1'),
    'seed as text': lambda content: content['meta'].update(seed='0'),
    'message hub of something else': lambda content: content.update(message_hub=dict(runtime_info=5)),
    'no message hub': lambda content: content.pop('message_hub'),
    'optimizer of another kind': lambda content: content.update(
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0).state_dict()
    ),
    'state of other sizes': lambda content: [
        state.update({key: torch.zeros(7) for key, value in state.items() if getattr(value, 'ndim', 0)})
        for state in content['optimizer']['state'].values()
    ],
    'groups of something else': lambda content: content['optimizer'].update(param_groups=[5]),
    'no groups': lambda content: content['optimizer'].pop('param_groups'),
    'schedules of something else': lambda content: content.update(param_schedulers=[5]),
    'optimizer as text': lambda content: content.update(optimizer='x'),
}


@pytest.mark.parametrize('case', CHANGES)
def test_what_no_run_writes_is_refused_in_one_line(run, tmp_path, case):
    _, content, runner = run
    changed = copy.deepcopy(content)
    CHANGES[case](changed)
    torch.save(changed, tmp_path / 'stranger.pth')
    with pytest.raises(KoviltError, match='stranger.pth') as caught:
        check_resumable(runner, load_checkpoint_file(tmp_path / 'stranger.pth'), 'stranger.pth')
    assert '\n' not in str(caught.value)
