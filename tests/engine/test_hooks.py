from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook

from kovilt.engine.hooks import EpochTimeHook, ExactResumeHook, InitCLSFromMaskHook
from kovilt.engine.hooks import epoch_time as clock
from kovilt.engine.hooks.epoch_time import peak_memory_mb
from tests.support.tiny_models import tiny_model, tiny_tokenizer


class RecordSeeds(Hook):
    """Records the seed of every sample that is trained on."""

    def __init__(self):
        self.seeds = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seeds.append(data_batch[0]['sample_seed'].tolist())


def train_and_record_seeds(runner):
    hook = RecordSeeds()
    runner.register_hook(hook)
    runner.train()
    return hook.seeds


def test_histories_of_the_log_do_not_grow_for_ever(build, monkeypatch):
    monkeypatch.setattr('kovilt.engine.hooks.step_info.MAX_HISTORY', 4)
    runner = build(steps=9, limit=48)
    runner.train()
    lengths = {name: len(scalar.data[0]) for name, scalar in runner.message_hub.log_scalars.items()}
    assert {'train/loss', 'train/time'} <= lengths.keys() and max(lengths.values()) == 4


def test_samplers_learn_the_epoch_in_both_loops_with_any_workers(build):
    by_epoch = train_and_record_seeds(build(epochs=2, limit=48))
    first, second = by_epoch[:3], by_epoch[3:]
    assert len(by_epoch) == 6 and not set(sum(first, [])) & set(sum(second, []))  # other seeds in every epoch
    more = 'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=6)'  # the same loop, in MMEngine's notation
    assert (
        train_and_record_seeds(
            build(steps=6, more=more, limit=48, save_every=10, options=('train_dataloader.num_workers=2',))
        )
        == by_epoch
    )


@pytest.mark.parametrize(
    ('step', 'load_from', 'starts'), [(0, 'encoder.pth', True), (3, 'encoder.pth', False), (0, None, False)]
)
def test_the_first_token_starts_as_a_mask_after_pre_training(step, load_from, starts):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    before = copy.deepcopy(model.state_dict())
    dataset = SimpleNamespace(tokenizer=tokenizer)
    runner = SimpleNamespace(
        iter=step, load_from=load_from, model=model, train_dataloader=SimpleNamespace(dataset=dataset)
    )
    InitCLSFromMaskHook().before_train(runner)
    words, places = 'encoder.text.word_embed.weight', 'encoder.text.pos_embed.weight'
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == ({words, places} if starts else set())
    if starts:
        assert torch.equal(after[words][tokenizer.cls_token_id], before[words][tokenizer.mask_token_id])
        assert torch.equal(after[places][0], before[places][1]) and torch.equal(after[places][1:], before[places][1:])


def test_dropout_is_repeated_by_step_rank_and_seed():
    def sample(seed=0, step=3, rank=0):
        ExactResumeHook().before_train_iter(SimpleNamespace(seed=seed, iter=step, rank=rank), 0)
        return torch.rand(4).tolist()

    assert sample() == sample()
    assert len({tuple(sample(*place)) for place in ((0, 3, 0), (1, 3, 0), (0, 4, 0), (0, 3, 1))}) == 4


@pytest.mark.parametrize(('steps', 'expected'), [(4, 3.0), (2, 6.0)])
def test_an_epoch_is_training_alone(monkeypatch, steps, expected):
    now = [100.0]
    monkeypatch.setattr(clock.time, 'perf_counter', lambda: now[0])
    info = {}
    runner = SimpleNamespace(
        train_dataloader=range(4),
        world_size=1,
        logger=SimpleNamespace(info=lambda text: None),
        message_hub=SimpleNamespace(update_info=info.__setitem__),
    )
    hook = EpochTimeHook()
    hook.before_val(runner)  # an evaluation before any training
    hook.after_val(runner)
    hook.before_train_epoch(runner)
    for step in range(steps):
        now[0] += 3.0 / steps
        hook.after_train_iter(runner, step, [{'input_ids': [0] * 5}, {'input_ids': [0] * 3}])
        hook.before_val(runner)
        now[0] += 1000
        hook.after_val(runner)
    hook.after_train_epoch(runner)
    assert info['epoch_time'] == {
        'epoch_seconds': pytest.approx(expected),
        'texts_per_second': pytest.approx(8 * steps / 3),
        'processes': 1,
        'peak_memory_mb': pytest.approx(peak_memory_mb(), rel=0.5),
    }


def test_the_record_holds_means_over_its_interval(build, tmp_path):
    def losses(interval):
        work = tmp_path / str(interval)
        build(
            work, steps=5, limit=48, save_every=10, options=(f'default_hooks.run_record.interval={interval}',)
        ).train()
        lines = [json.loads(line) for line in (work / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
        return {line['step']: line['loss'] for line in lines if line['mode'] == 'train'}

    single, double = losses(1), losses(2)
    assert list(double) == [2, 4, 5]
    assert double[2] == pytest.approx((single[1] + single[2]) / 2)
    assert double[4] == pytest.approx((single[3] + single[4]) / 2)
    assert double[5] == pytest.approx(single[5])


@pytest.mark.parametrize('length', [{'steps': 3, 'save_every': 10}, {'epochs': 1}])
def test_a_run_shorter_than_the_interval_of_the_log_shows_its_loss(build, tmp_path, length):
    runner = build(
        tmp_path,
        limit=48,
        options=(
            'default_hooks.logger.interval=1000',
            'val_cfg=None',
            'val_dataloader=None',
            'val_evaluator=None',
            'default_hooks.checkpoint.save_best=None',
        ),
        **length,
    )
    runner.train()
    lines = [
        line for line in next(tmp_path.glob('*/*.log')).read_text(encoding='utf-8').splitlines() if 'loss: ' in line
    ]
    assert len(lines) == 1 and '3/3' in lines[0]
