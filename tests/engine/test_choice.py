"""A training of multiple choice starts from the matching head of pre-training, which can also be tested untrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import load_checkpoint_file, write_checkpoint

pytestmark = pytest.mark.usefixtures('unformatted_configs')


@pytest.fixture(scope='module')
def pretrained(build, tmp_path_factory) -> Path:
    runner = build(task='pretrain', steps=1, limit=16)
    runner.train()
    with torch.no_grad():
        runner.model.itm_head.fc.weight.normal_()
    file = tmp_path_factory.mktemp('pretrained') / 'iter_1.pth'
    write_checkpoint(runner.collect_checkpoint({'iter': 1, 'epoch': 0}), file)
    return file


def head(path: Path) -> torch.Tensor:
    """The weight of the matching head of a checkpoint, as that of a choice head."""
    return load_checkpoint_file(path)['state_dict']['itm_head.fc.weight'].diff(dim=0)


def test_it_starts_from_the_matching_head_and_learns(build, pretrained, tmp_path):
    runner = build(tmp_path, task='choice', steps=2, limit=24, overrides={'load_from': str(pretrained)})
    runner.load_or_resume()
    assert torch.equal(runner.model.choice_head.fc.weight, head(pretrained))
    state = load_checkpoint_file(pretrained)['state_dict']
    assert torch.equal(runner.model.encoder.norm.weight, state['encoder.norm.weight'])
    log = Path(runner.work_dir, runner.timestamp, f'{runner.timestamp}.log').read_text(encoding='utf-8')
    assert 'the choice head is its matching (ITM) head' in log and 'dropped: nothing' in log
    runner.train()
    assert not torch.equal(runner.model.choice_head.fc.weight, head(pretrained))
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text('utf-8').splitlines()]
    (scored,) = [row for row in rows if row['mode'] == 'val']
    assert 25 < scored['random_accuracy'] < 60 and scored['circular_accuracy'] <= scored['accuracy']
    assert {'choice_loss', 'choice_accuracy'} <= next(row for row in rows if row['mode'] == 'train').keys()


def test_the_encoder_alone_can_be_taken_and_another_training_without_a_matching_head(build, pretrained, tmp_path):
    overrides = {'load_from': str(pretrained), 'load_encoder_only': True}
    runner = build(task='choice', steps=1, limit=24, overrides=overrides)
    fresh = runner.model.choice_head.fc.weight.clone()
    runner.load_or_resume()
    assert torch.equal(runner.model.choice_head.fc.weight, fresh)
    checkpoint = load_checkpoint_file(pretrained)
    checkpoint['state_dict'] = {k: v for k, v in checkpoint['state_dict'].items() if not k.startswith('itm_head')}
    write_checkpoint(checkpoint, tmp_path / 'mlm.pth')
    runner = build(task='choice', steps=1, limit=24, overrides={'load_from': str(tmp_path / 'mlm.pth')})
    with pytest.raises(KoviltError, match='mlm.pth: pre-trained without image-text matching'):
        runner.load_or_resume()


def test_a_pre_trained_model_is_tested_as_it_is(build, pretrained, rooms, tmp_path, call):
    from tiny_rooms import tiny_config

    config = tiny_config(tmp_path / 'choice.py', task='choice', steps=1)
    code, _, said = call('test', config, pretrained, '--out', tmp_path / 'out.jsonl', '--work-dir', tmp_path / 'test')
    assert code == 0, said
    metrics = json.loads((tmp_path / 'test' / 'metrics.json').read_text('utf-8'))['metrics']
    lines = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text('utf-8').splitlines()]
    asked = [json.loads(line) for line in (rooms / 'choices' / 'val.jsonl').read_text('utf-8').splitlines()]
    assert metrics['questions'] == len(lines) == len(asked)
    assert metrics['random_accuracy'] == pytest.approx(100 * sum(1 / len(row['options']) for row in asked) / len(asked))
    options = {str(row['question_id']): row['options'] for row in asked}
    assert all(line['answer'] in options[line['question_id']] for line in lines)
    assert metrics['accuracy'] == pytest.approx(100 * sum(line['correct'] for line in lines) / len(lines))


def test_circular_evaluation_needs_no_passes_as_rotated_options_get_the_same_answers(
    build, pretrained, rooms, tmp_path
):
    """CircularEval, done as it is defined: each question once in every cyclic order."""
    runner = build(task='choice', steps=1, limit=24, overrides={'load_from': str(pretrained)})
    runner.load_or_resume()
    dataset, model = runner.val_loop.dataloader.dataset, runner.model.eval()
    own = dataset.__getitems__(list(range(len(dataset))))
    right = torch.ones(len(own), dtype=torch.bool)
    for shift in range(4):
        rotated = []
        for sample in own:
            count, record = len(sample['options']), sample['record']
            order = [(place + shift) % count for place in range(count)]
            rotated.append(sample | {
                'options': [sample['options'][place] for place in order],
                'record': record | {'options': [record['options'][place] for place in order]},
            })  # fmt: skip
        with torch.no_grad():
            found = model.val_step(dataset_batch(rotated))
        right &= torch.tensor([one['answer'] == one['record']['answer'] for one in found])
    with torch.no_grad():
        predictions = model.val_step(dataset_batch(own))
    metric = runner.val_evaluator.metrics[0]
    metric.process(None, predictions)
    assert metric.compute_metrics(metric.results)['circular_accuracy'] == pytest.approx(
        100 * float(right.float().mean())
    )


def dataset_batch(samples: list[dict]) -> list:
    from kovilt.datasets import collate_pairs

    return collate_pairs(samples)


def test_the_same_questions_are_answered_by_classes_among_their_options(build, tmp_path):
    runner = build(tmp_path, task='choice_vocabulary', steps=2, limit=16)
    runner.train()
    dataset, model = runner.val_loop.dataloader.dataset, runner.model.eval()
    with torch.no_grad():
        found = model.val_step(dataset_batch(dataset.__getitems__(list(range(8)))))
    assert all(one['answer'] in one['record']['options'] for one in found)
