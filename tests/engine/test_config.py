from __future__ import annotations

import pytest
from tiny_rooms import CONFIGS

from kovilt.engine.config import load_config
from kovilt.engine.config_options import parse_option
from kovilt.errors import KoviltError

VQA = CONFIGS / 'rooms' / 'vqa.py'


def write(path, text):
    path.write_text(text, encoding='utf-8')
    return path


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'model.encoder.hiden_size=3',
            r"unknown key 'hiden_size' in model.encoder \(ViLT\) \(did you mean 'hidden_size'",
        ),
        ('model.encodr.hidden_size=3', r"unknown key 'encodr' in model \(ViLTForVQA\) \(did you mean 'encoder'\?\)"),
        (
            'modle.encoder.hidden_size=3',
            r"--cfg-options modle.encoder.hidden_size: unknown key \(did you mean 'model'\?\)",
        ),
        ('model.encoder.type=Vilt', r"model.encoder: no model is called 'Vilt' \(did you mean 'ViLT'\?\)"),
        ('model.encoder.hidden_size=big', "model.encoder.hidden_size is 'big', a str; it must be int"),
        ('model.encoder.hidden_size=12.5', 'model.encoder.hidden_size is 12.5, a float; it must be int'),
        ('model.encoder.drop_rate=true', 'model.encoder.drop_rate is True, a bool; it must be float'),
        (
            'model.encoder.pos_init=sinus',
            "pos_init is 'sinus'; it must be one of 'normal', 'sincos' .did you mean 'sincos'",
        ),
        ('model.vqa_head.loss=crossentropy', "must be one of 'cross_entropy', 'bce'"),
        ('train_dataloader.batchsize=3', "'batchsize' in train_dataloader .did you mean 'batch_size'"),
        ('train_dataloader.batch_size=0', 'train_dataloader.batch_size is 0; it must be at least 1'),
        ('train_dataloader.dataset.limt=3', r"unknown key 'limt' in train_dataloader.dataset .*'limit'"),
        ('train_dataloader.dataset.image_pipeline.1.shrt=3', r"'shrt' in train_.*image_pipeline.1 .*'short'"),
        ('train_dataloader.dataset.image_pipeline.7.short=3', '--cfg-options .*Index 7 exceeds'),
        ('train_dataloader.sampler.shufle=true', "did you mean 'shuffle'"),
        ('train_dataloader.collate_fn.micro_batch=2', "did you mean 'micro_batches'"),
        ('optim_wrapper.optimizer.weigt_decay=0', "did you mean 'weight_decay'"),
        ('optim_wrapper.clip_gradd.max_norm=1', "did you mean 'clip_grad'"),
        ('param_scheduler.warmpu=0.2', "did you mean 'warmup'"),
        ('train_cfg.max_iter=3', r"'max_iter' in train_cfg \(StepTrainLoop\) .did you mean 'max_iters'"),
        ('default_hooks.chekpoint.interval=1', "chekpoint: missing key 'type' .did you mean 'checkpoint'"),
        ('default_hooks.checkpoint.intervall=1', "did you mean 'interval'"),
        ('default_hooks.logger.interal=1', "did you mean 'interval'"),
        ('val_evaluator.type=VQAAccurcy', "did you mean 'VQAAccuracy'"),
        ('randomness.sed=1', "unknown key 'sed' in randomness"),
        ('data_root=elsewhere', "'data_root' is a helper variable, .*; set train_dataloader.dataset"),
        ('model=3', 'model is 3; it must be a dict'),
        ('model.type=3', 'model: 3 names no model; give its name as text'),
        ('default_hooks.ema={"type": "EMAHook", "ema_type": None}', 'ema_type: None names no model'),
        ('train_dataloader.collate_fn.type=Pairs', "no function is called 'Pairs'; it takes PairCollate, d"),
        ('visualizer=3', 'visualizer is 3; it must be a dict'),
        ('default_hooks.mine=3', 'default_hooks.mine is 3; it must be a dict'),
        ('default_hooks.ema={"type": "EMAHook", "momentun": 0.1}', "did you mean 'momentum'"),
        ('optim_wrapper.optimizer={"type": "AdamW", "betta": [0, 0]}', r"'betta' in .* \(AdamW\) .*'betas'"),
        ('param_scheduler={"_delete_": True, "type": "CosineAnnealingLR", "T_maxx": 3}', "did you mean 'T_max'"),
        ('model.encoder={"type": "ViLT", "init_cfg": {"type": "Pretrained"}}', "unknown key 'init_cfg'"),
        ('model.init_cfg.type=Pretrained', 'unpickles its file'),
        ('optim_wrapper.optimizer.type=Adamm', "no optimizer is called 'Adamm'"),
        ('custom_hooks=[{"type": "mmpretrain.EMAHok"}]', "no hook is called 'mmpretrain.EMAHok'"),
        ('model.encoder', 'write KEY=VALUE'),
        ('model..encoder=1', 'write KEY=VALUE'),
    ],
)
def test_a_wrong_option_is_named_with_the_nearest_right_one(option, message):
    with pytest.raises(KoviltError, match=message) as error:
        load_config(VQA, [option])
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=3)', 'is False, but train_cfg counts epochs'),
        ('model = dict(encoder=dict(hiden_size=3))', "did you mean 'hidden_size'"),
        (
            'modle = dict(encoder=dict(hidden_size=3))',
            r"own.py:2: unknown top-level key 'modle' \(did you mean 'model'\?\)",
        ),
        ("data_root = 'mine'", "own.py:2: 'data_root' is set again, but the base"),
        ('model = dict(', r"own.py:2: '\(' was never closed"),
        ('load_from = missing_name', 'own.py:2: NameError'),
        ("custom_imports = dict(imports=['no_such_package'])", 'custom_imports: .*no_such_package'),
        ("train_cfg = dict(max_iters='many')", "train_cfg.max_iters is 'many', a str; it must be int"),
        ("default_hooks = dict(ema=dict(type='EMAHook', momentun=0.1))", "did you mean 'momentum'"),
        (
            "val_dataloader = dict(dataset=dict(reader=dict(_delete_=True, type='AIHubLivingReader')))",
            "missing key 'data_root' in val_dataloader.dataset.reader",
        ),
        ("val_dataloader = dict(dataset=dict(reader=dict(splt='val')))", "unknown key 'splt' .*'split'"),
        (
            "val_dataloader = dict(dataset=dict(type='AIHubLivingVQA'))",
            "called 'AIHubLivingVQA'; a QuestionDataset or PairDataset with reader=.* mean 'AIHubLivingReader'",
        ),
        ('train_dataloader = dict(_delete_=True, batch_size=1)', "train_dataloader: missing key 'dataset'"),
        ("model = dict(encoder=dict(type='mmpretrain.VisionTransformr'))", 'no model is called .mmpretrain.Vis'),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, message):
    path = write(tmp_path / 'own.py', f'_base_ = {str(VQA)!r}\n{text}\n')
    with pytest.raises(KoviltError, match=message) as error:
        load_config(path)
    assert '\n' not in str(error.value)


def test_prepared_rows_need_no_cache():
    with pytest.raises(KoviltError, match=r"unknown key 'cache' in train_dataloader.dataset.reader .PreparedReader."):
        load_config(CONFIGS / 'kovilt_vqa_prepared.py', ['train_dataloader.dataset.reader.cache=True'])


def test_a_missing_file_or_base_is_named(tmp_path):
    with pytest.raises(KoviltError, match=r"rooms/vqq.py: no such config file \(did you mean 'vqa.py'\?\)"):
        load_config(VQA.with_name('vqq.py'))
    with pytest.raises(KoviltError, match='own.py: it inherits from .*none.py, which does not exist'):
        load_config(write(tmp_path / 'own.py', "_base_ = 'none.py'"))
    with pytest.raises(KoviltError, match='base.py:1: invalid syntax'):
        write(tmp_path / 'base.py', 'model = = 3')
        load_config(write(tmp_path / 'own.py', "_base_ = 'base.py'"))
    with pytest.raises(KoviltError, match='ends in .py'):
        load_config(write(tmp_path / 'own.yaml', ''))


def test_helpers_that_are_read_and_options_that_are_right_pass(tmp_path):
    path = write(
        tmp_path / 'own.py',
        f'_base_ = {str(VQA)!r}\nwidth = 64\nmodel = dict(encoder=dict(hidden_size=width))\n'
        "root = _base_.data_root\nload_from = f'{root}/encoder.safetensors'\n",
    )
    options = [
        'model.encoder.num_layers=2',
        'optim_wrapper.optimizer.betas=0.9,0.95',
        'load_from=None',
        'train_dataloader.dataset.image_pipeline.1.short=64',
        'default_hooks.ema.type=EMAHook',
        'default_hooks.ema.momentum=1e-3',
        'model.encoder.drop_rate=0',
        'custom_hooks=[{"type": "EmptyCacheHook"}]',
    ]
    config = load_config(path, options)
    assert config.model.encoder.hidden_size == 64 and config.model.encoder.num_layers == 2
    assert config.optim_wrapper.optimizer.betas == [0.9, 0.95] and config.load_from is None
    assert config.train_dataloader.dataset.image_pipeline[1].short == 64
    assert config.default_scope == 'kovilt' and config.runner_type == 'KoviltRunner'


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 3),
        ('1e-4', 1e-4),
        ('true', True),
        ('None', None),
        ('1,2', [1, 2]),
        ('[a,b]', ['a', 'b']),
        ('[a]', ['a']),
        ('(1, 2)', (1, 2)),
        ('a b=c', 'a b=c'),
        ('"소파는 무슨 색이에요?"', '소파는 무슨 색이에요?'),
        ('소파는 무슨 색', '소파는 무슨 색'),
        ('{"a": [1]}', {'a': [1]}),
        ('work_dirs/a.pth', 'work_dirs/a.pth'),
        ('', ''),
    ],
)
def test_values_of_options(text, value):
    assert parse_option(f'a.b={text}') == ('a.b', value)


def test_the_patch_size_reaches_the_transforms_from_the_encoder():
    arguments = {'Patchify': 'patch_size', 'ResizeViLT': 'divisor'}

    def steps(config):
        pipelines = [config[f'{name}_dataloader'].dataset.image_pipeline for name in ('train', 'val')]
        return [step.get(arguments.get(step.type)) for pipeline in pipelines for step in pipeline]

    assert steps(load_config(VQA)) == [None, 16, 16] * 2
    assert steps(load_config(VQA, ['model.encoder.patch_size=8'])) == [None, 8, 8] * 2
    stated = load_config(VQA, ['train_dataloader.dataset.image_pipeline.1.divisor=32'])
    assert steps(stated) == [None, 32, 16, None, 16, 16]
    meter = load_config(VQA.with_name('meter_vqa.py')).train_dataloader.dataset.image_pipeline
    assert meter[-1].patch_size == 16
