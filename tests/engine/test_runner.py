from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import load_checkpoint_file
from kovilt.models import ViLTForVQA


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint_file(path)['state_dict']


def assert_equal(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def lines(work_dir: Path, mode: str = 'train') -> list[dict]:
    found = [json.loads(line) for line in (work_dir / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    return [line for line in found if line['mode'] == mode]


def test_compile_is_handed_to_the_encoder_and_checked(build):
    runner = build(steps=1, overrides={'compile': {'backend': 'eager'}})
    runner._maybe_compile('train_step')
    assert runner.model.encoder.blocks[0].compile_options == {'backend': 'eager'}
    runner.cfg.compile = {'backand': 'eager'}
    with pytest.raises(KoviltError, match="no argument 'backand' .did you mean 'backend'"):
        runner._maybe_compile('train_step')
    runner.model.encoder = torch.nn.Linear(1, 1)
    runner.cfg.compile = True
    with pytest.raises(KoviltError, match='a Linear has no parts to compile'):
        runner._maybe_compile('train_step')


@pytest.mark.parametrize('half', [False, True])
def test_validations_are_in_float32_unless_half_precision_is_asked_for(build, half, monkeypatch):
    options = ('optim_wrapper.precision=bfloat16', *(['val_cfg.fp16=true'] if half else []))
    scores, seen = ViLTForVQA.scores, set()

    def watched(model, batch):
        seen.add(torch.is_autocast_enabled('cpu'))
        return scores(model, batch)

    monkeypatch.setattr(ViLTForVQA, 'scores', watched)
    build(steps=1, limit=48, options=options).train()
    assert seen == {half}


EMA = "default_hooks['ema'] = dict(type='EMAHook', momentum=0.1)"


def test_two_and_two_epochs_equal_four(build, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    build(whole, epochs=4, drop_rate=0.1, limit=48, more=EMA).train()
    parts.mkdir()
    shutil.copy(whole / 'epoch_2.pth', parts)
    runner = build(parts, epochs=4, drop_rate=0.1, limit=48, more=EMA, overrides={'resume': 'auto'})
    runner.train()
    ours, theirs = load_checkpoint_file(parts / 'epoch_4.pth'), load_checkpoint_file(whole / 'epoch_4.pth')
    assert_equal(ours['state_dict'], theirs['state_dict'])
    assert_equal(ours['ema_state_dict'], theirs['ema_state_dict'])
    assert ours['param_schedulers'] == theirs['param_schedulers']
    assert (runner.epoch, runner.iter) == (4, 12)
    drop = ('time', 'epoch_seconds', 'texts_per_second')
    for mode in ('train', 'val'):
        again = [line for line in lines(whole, mode) if line['epoch'] >= 2]  # also the validation after epoch 2
        assert [{k: v for k, v in line.items() if k not in drop} for line in lines(parts, mode)] == [
            {k: v for k, v in line.items() if k not in drop} for line in again
        ]


def test_a_run_counted_in_steps_resumes_within_an_epoch(build, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    build(whole, steps=7, save_every=5, drop_rate=0.1, limit=48, more='custom_hooks = []').train()
    parts.mkdir()
    shutil.copy(whole / 'iter_5.pth', parts)
    shutil.copy(whole / 'metrics.jsonl', parts)
    runner = build(
        parts,
        steps=7,
        save_every=5,
        drop_rate=0.1,
        limit=48,
        more='custom_hooks = []',
        overrides={'resume': 'auto'},
        options=('train_dataloader.num_workers=1',),
    )
    runner.train()
    assert_equal(weights(parts / 'iter_7.pth'), weights(whole / 'iter_7.pth'))
    assert [line['step'] for line in lines(parts)] == list(range(1, 8))  # nothing twice
    assert runner.epoch == 2  # 3 steps an epoch


def test_accumulation_changes_neither_result_nor_schedule(build, tmp_path):
    for name, micro_batches in (('one', 1), ('four', 4)):
        build(
            tmp_path / name, steps=4, limit=48, options=(f'train_dataloader.collate_fn.micro_batches={micro_batches}',)
        ).train()
    ours, theirs = weights(tmp_path / 'four' / 'iter_4.pth'), weights(tmp_path / 'one' / 'iter_4.pth')
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    for four, one in zip(lines(tmp_path / 'four'), lines(tmp_path / 'one'), strict=True):
        assert four['lr/encoder.decay'] == one['lr/encoder.decay']
        assert four['loss'] == pytest.approx(one['loss'], rel=1e-4)


def test_fine_tuning_loads_the_encoder_and_leaves_the_heads(build, tmp_path):
    build(tmp_path / 'pre', task='pretrain', steps=2).train()
    source = tmp_path / 'pre' / 'iter_2.pth'
    runner = build(tmp_path / 'vqa', steps=1, overrides={'load_from': str(source)})
    fresh = {name: value.clone() for name, value in runner.model.vqa_head.state_dict().items()}
    runner.load_or_resume()
    encoder = {name[8:]: value for name, value in weights(source).items() if name.startswith('encoder.')}
    assert_equal(dict(runner.model.encoder.state_dict()), encoder)
    assert_equal(dict(runner.model.vqa_head.state_dict()), fresh)

    from safetensors.torch import save_file

    save_file(
        {name: value for name, value in weights(source).items() if name.startswith('encoder.')},
        tmp_path / 'encoder.safetensors',
    )
    runner = build(steps=1, overrides={'load_from': str(tmp_path / 'encoder.safetensors')})
    runner.load_or_resume()
    assert_equal(dict(runner.model.encoder.state_dict()), encoder)


@pytest.fixture(scope='module')
def trained(build, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    build(folder, steps=1).train()
    return folder / 'iter_1.pth'


def test_a_checkpoint_says_what_it_is_and_holds_plain_values(trained):
    checkpoint = torch.load(trained, weights_only=True)
    meta = checkpoint['meta']
    assert meta['model_type'] == 'ViLTForVQA' and meta['iter'] == 1 and meta['seed'] == 0
    assert len(meta['dataset_meta']['answers']) == meta['data_sizes']['num_answers'] > 1
    assert checkpoint['message_hub']['log_scalars'] == {}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ('model.encoder.hidden_size=32',),
            'not a checkpoint of this ViLTForVQA; it is ViLTForVQA after 0 epochs, 1 steps',
        ),
        (('model.encoder.num_layers=3',), 'is missing there'),
        (('train_dataloader.dataset.answers.min_count=3',), 'answers'),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(build, trained, options, message):
    runner = build(steps=1, options=options, overrides={'load_from': str(trained)})
    with pytest.raises(KoviltError, match=message):
        runner.load_or_resume()


def test_a_checkpoint_of_another_model_is_refused_when_resuming(build, tmp_path, trained):
    runner = build(task='pretrain', steps=1, overrides={'load_from': str(trained), 'resume': True})
    with pytest.raises(KoviltError, match='not a checkpoint of this ViLTForPreTraining; it is ViLTForVQA'):
        runner.load_or_resume()


def test_weights_of_another_kind_of_encoder_start_a_training_with_a_warning_and_nothing_else(build, trained, caplog):
    prefix, joint = "model.encoder.type='PrefixViLT'", "model.encoder.type='ViLT'"
    runner = build(steps=1, options=(prefix,), overrides={'load_from': str(trained)})
    with caplog.at_level('WARNING', runner.logger.name):
        runner.logger.addHandler(caplog.handler)
        runner.train()
    warnings = [record.getMessage() for record in caplog.records if 'PrefixViLT' in record.getMessage()]
    assert len(warnings) == 1 and 'iter_1.pth: its encoder is a ViLT, this one a PrefixViLT' in warnings[0]
    (again,) = Path(runner.work_dir).glob('iter_1.pth')  # and the way back
    for checkpoint, options, message in (
        (trained, prefix, 'its encoder is a ViLT, this one a PrefixViLT'),
        (again, joint, 'its encoder is a PrefixViLT, this one a ViLT'),
    ):
        runner = build(steps=2, options=(options,), overrides={'load_from': str(checkpoint), 'resume': True})
        with pytest.raises(KoviltError, match=f'iter_1.pth: {message}') as caught:
            runner.load_or_resume()
        assert '\n' not in str(caught.value)


def test_an_encoder_alone_can_be_kept_when_the_answers_changed(build, trained):
    runner = build(
        steps=1,
        options=('train_dataloader.dataset.answers.min_count=3',),
        overrides={'load_from': str(trained), 'load_encoder_only': True},
    )
    runner.load_or_resume()
    assert torch.equal(runner.model.encoder.state_dict()['norm.weight'], weights(trained)['encoder.norm.weight'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('model.encoder.vocab_size=7',), 'vocab_size is 7, but the tokenizer has'),
        (('model.encoder.max_text_len=8',), 'model.encoder.max_text_len is 8, but texts are cut to max_text_len=24'),
        (
            ('train_dataloader.dataset.image_pipeline.2.patch_size=8',),
            'model.encoder.patch_size is 16, but Patchify cuts patches of 8 pixels',
        ),
        (('model.vqa_head.num_answers=2',), 'num_answers is 2, but the training data has'),
        (('model.encoder.num_heads=3',), 'model: .*num_heads'),
        (('optim_wrapper.paramwise_cfg.head_prefixes=[vqa_hed]',), "did you mean 'vqa_head'"),
    ],
)
def test_numbers_that_disagree_are_found_before_the_first_step(build, tmp_path, options, message):
    with pytest.raises(KoviltError, match=message):
        build(tmp_path / 'work', steps=1, options=options).train()
    assert not (tmp_path / 'work').exists()


def test_a_missing_checkpoint_or_folder_that_cannot_be_written(build, tmp_path):
    with pytest.raises(KoviltError, match='no such checkpoint'):
        build(tmp_path / 'work', steps=1, overrides={'load_from': str(tmp_path / 'none.pth')}).train()
    assert not (tmp_path / 'work').exists()
    (tmp_path / 'file').touch()
    with pytest.raises(KoviltError, match='cannot write there'):
        build(tmp_path / 'file' / 'work', steps=1)


def test_resuming_where_nothing_is_starts_afresh(build, tmp_path, trained):
    runner = build(tmp_path / 'new', steps=1, overrides={'resume': 'auto', 'load_from': str(trained)})
    runner.load_or_resume()
    assert runner.iter == 0
    assert torch.equal(runner.model.state_dict()['encoder.norm.weight'], weights(trained)['encoder.norm.weight'])


def test_a_resumed_run_keeps_its_seed(build, trained):
    runner = build(steps=2, options=('randomness.seed=5',), overrides={'load_from': str(trained), 'resume': True})
    with pytest.raises(KoviltError, match='seed was 0, is 5 .--seed 0 keeps it.: .* --allow-change randomness.seed'):
        runner.load_or_resume()


def test_broken_images_are_listed_in_the_record(build, rooms, tmp_path):
    broken = tmp_path / 'rooms'
    shutil.copytree(rooms, broken)
    image = sorted((broken / 'vqa' / 'Training').rglob('*.jpg'))[0]
    image.write_bytes(image.read_bytes()[:300])
    root = f'train_dataloader.dataset.reader.data_root={broken}/vqa'
    build(tmp_path / 'work', epochs=1, options=(root, 'train_dataloader.dataset.max_broken_fraction=0.2')).train()
    data = json.loads((tmp_path / 'work' / 'data.json').read_text(encoding='utf-8'))
    assert [Path(name).name for name in data['train']['broken_images']] == [image.name]
    with pytest.raises(KoviltError, match='max_broken_fraction=0.01'):
        build(epochs=1, options=(root,)).train()
