"""Training on a teacher's scores: it is logged, resumes exactly, and is the plain training where it has no weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_rooms import tiny_teacher

from kovilt.errors import KoviltError

pytestmark = pytest.mark.usefixtures('unformatted_configs')
RUN = {'task': 'vqa_distill', 'steps': 4, 'save_every': 2, 'limit': 32}
TEACHER = 'train_dataloader.dataset.teacher_answers'


@pytest.fixture(scope='module')
def teacher(rooms, tmp_path_factory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp('teacher') / 'teacher.jsonl')


@pytest.fixture(scope='module')
def saved(build, teacher, tmp_path_factory) -> Path:
    """The work folder of a run of 4 steps, with its checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp('saved')
    build(folder, (f'{TEACHER}={teacher}',), **RUN).train()
    return folder


def weights(folder: Path, step: int = 4) -> dict[str, torch.Tensor]:
    return torch.load(folder / f'iter_{step}.pth', weights_only=True)['state_dict']


def resume(build, saved: Path, work_dir: Path, teacher: Path) -> Path:
    shutil.copytree(saved, work_dir)
    for file in work_dir.glob('*_4.pth'):
        file.unlink()
    (work_dir / 'last_checkpoint').write_text('iter_2.pth')
    build(work_dir, (f'{TEACHER}={teacher}',), {'resume': 'auto'}, **RUN).train()
    return work_dir


def test_the_loss_of_the_scores_is_logged_and_changes_the_training(saved, build, teacher):
    lines = [json.loads(line) for line in (saved / 'metrics.jsonl').read_text('utf-8').splitlines()]
    losses = [line['distillation_loss'] for line in lines if line['mode'] == 'train']
    assert len(losses) == 4 and all(loss > 0 for loss in losses)
    data = json.loads((saved / 'data.json').read_text('utf-8'))
    assert data['train']['teacher_answers'] == {'rows': 32, 'scored': 32, 'outside': pytest.approx(0.1, abs=0.05)}
    options = (f'{TEACHER}={teacher}', 'train_dataloader.collate_fn.micro_batches=3')
    runner = build(options=options, **RUN)
    runner.train()
    for name, value in weights(saved).items():  # accumulation saves memory and changes nothing else
        torch.testing.assert_close(runner.model.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_a_resumed_run_is_the_uninterrupted_one_also_with_a_file_that_was_moved(build, saved, teacher, tmp_path):
    moved = Path(shutil.copy(teacher, tmp_path / 'elsewhere.jsonl'))
    ours, theirs = weights(resume(build, saved, tmp_path / 'work', moved)), weights(saved)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_scores_are_other_data(build, saved, tmp_path):
    with pytest.raises(KoviltError, match='since it was saved, data.train.rows was .*--allow-change data.train.rows'):
        resume(build, saved, tmp_path / 'work', tiny_teacher(tmp_path / 'teacher.jsonl', share=0.6))


def test_without_weight_it_is_the_plain_training_bit_for_bit(build, teacher, tmp_path):
    run = RUN | {'steps': 2}
    no_weight = ('model.vqa_head.distillation_weight=0.0', 'model.vqa_head.distillation_temperature=1.0')
    build(tmp_path / 'taught', (f'{TEACHER}={teacher}', *no_weight), **run).train()
    build(tmp_path / 'plain', (f'{TEACHER}=None', *no_weight), **run).train()
    ours, theirs = weights(tmp_path / 'taught', 2), weights(tmp_path / 'plain', 2)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_weight_without_scores_is_refused(build):
    with pytest.raises(KoviltError, match="needs a teacher's scores; give train_dataloader.dataset.teacher_answers"):
        build(options=(f'{TEACHER}=None',), **RUN)  # before the data is opened
