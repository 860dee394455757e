"""Every wrong value of a config is one line with the key and what is due, before any data is read."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_rooms import CONFIGS

from kovilt.engine.config import load_config
from kovilt.engine.config_check import check_config
from kovilt.engine.config_options import flatten_config
from kovilt.errors import KoviltError
from kovilt.models.sizes import FROM_DATA, build_model, complete_model_config
from kovilt.registry import HOOKS, PARAM_SCHEDULERS, TRANSFORMS

VQA, PRETRAIN = CONFIGS / 'rooms' / 'vqa.py', CONFIGS / 'rooms' / 'pretrain.py'
DATA_SIZES = {'num_answers': 5, 'vocab_size': 300, 'mask_token_id': 4, 'special_token_ids': [0, 1, 2, 3, 4]}


def refusal(path, *options: str) -> str:
    with pytest.raises(KoviltError) as error:
        load_config(path, options)
    message = str(error.value)
    assert '\n' not in message and len(message) < 500
    return message


def schedule(text: str) -> str:
    return f"param_scheduler={{'_delete_': True, 'type': {text}}}"


@pytest.mark.parametrize(
    ('key', 'value', 'due'),
    [
        ('optim_wrapper.optimizer.lr', '0', 'above 0'),
        ('optim_wrapper.optimizer.lr', '-1e-3', 'above 0'),
        ('optim_wrapper.optimizer.lr', '1e400', 'above 0'),
        ('optim_wrapper.optimizer.lr', 'fast', 'must be float'),
        ('optim_wrapper.optimizer.lr', 'true', 'must be float'),
        ('optim_wrapper.optimizer.betas', '0.9', 'must be a list of 2'),
        ('optim_wrapper.optimizer.betas', '0.9,2', 'betas.1 is 2; it must be at least 0 and below 1'),
        ('optim_wrapper.optimizer.weight_decay', '-1', 'at least 0'),
        ('optim_wrapper.clip_grad.max_norm', '0', 'above 0'),
        ('optim_wrapper.paramwise_cfg.head_lr_mult', '-3', 'above 0'),
        ('optim_wrapper.paramwise_cfg.lr_mults', '{"encoder": 0}', 'lr_mults.encoder is 0; it must be above 0'),
        ('param_scheduler.warmup', '-0.1', 'at least 0'),
        ('model.encoder.hidden_size', '0', 'at least 1'),
        ('model.encoder.hidden_size', '1000000000000', 'at most 100,000'),
        ('model.encoder.num_layers', '0', 'at least 1'),
        ('model.encoder.num_heads', '0', 'at least 1'),
        ('model.encoder.num_heads', '-6', 'at least 1'),
        ('model.encoder.mlp_ratio', '0', 'above 0'),
        ('model.encoder.drop_rate', '1.5', 'at least 0 and below 1'),
        ('model.encoder.init_std', '-0.1', 'above 0'),
        ('model.encoder.patch_size', '0', 'at least 1'),
        ('model.vqa_head.loss_weight', '-1', 'at least 0'),
        ('model.vqa_head.loss_weight', '0', 'nothing is trained'),
        ('train_dataloader.batch_size', '0', 'at least 1'),
        ('train_dataloader.batch_size', '-1', 'at least 1'),
        ('train_dataloader.num_workers', '-1', 'at least 0'),
        ('train_dataloader.num_workers', '1.5', 'must be int'),
        ('train_dataloader.prefetch_factor', '0', 'at least 1'),
        ('train_dataloader.collate_fn.micro_batches', '0', 'at least 1'),
        ('train_dataloader.sampler.texts_per_image', '0', 'at least 1'),
        ('train_dataloader.sampler.seed', '-1', 'at least 0'),
        ('train_dataloader.dataset.limit', '0', 'at least 1'),
        ('train_dataloader.dataset.seed', '-1', 'at least 0'),
        ('train_dataloader.dataset.answers.min_count', '0', 'at least 1'),
        ('train_dataloader.dataset.text_pipeline.0.max_text_len', '2', 'at least 3'),
        ('train_cfg.max_iters', '0', 'at least 1'),
        ('train_cfg.val_interval', '0', 'at least 1'),
        ('train_cfg', '{"_delete_": True, "by_epoch": True, "max_epochs": 0}', 'max_epochs is 0; it must be at least'),
        ('default_hooks.logger.interval', '0', 'at least 1'),
        ('default_hooks.run_record.interval', '-1', 'at least 1'),
        ('default_hooks.checkpoint.interval', '0', 'must be -1 or at least 1'),
        ('default_hooks.checkpoint.max_keep_ckpts', '0', 'must be -1 or at least 1'),
        ('log_processor.window_size', '0', 'at least 1'),
        ('randomness.seed', '-1', 'at least 0'),
        ('randomness.seed', '4294967296', 'at most 4,294,967,295'),
        ('auto_scale_lr.base_batch_size', '0', 'at least 1'),
        ('env_cfg.mp_cfg.mp_start_method', 'forc', "did you mean 'fork'"),
        ('log_level', 'LOUD', 'one of'),
        ('resume', 'maybe', "must be bool or 'auto'"),
        ('load_from', '3', 'must be text'),
        ('default_hooks.ema', '{"type": "EMAHook", "momentum": 2}', 'momentum is 2; it must be above 0 and below 1'),
        ('default_hooks.stop', '{"type": "EarlyStoppingHook", "monitor": "accuracy", "patience": 0}', 'at least 1'),
        ('default_hooks.logger.priority', 'VERY_HIHG', "did you mean 'VERY_HIGH'"),
        ('default_hooks.logger.priority', '101', 'at most 100'),
    ],
)  # fmt: skip
def test_values_outside_their_range_name_key_and_range(key, value, due):
    message = refusal(VQA, f'{key}={value}')
    assert str(VQA) in message and key in message and due in message, message


@pytest.mark.parametrize(
    ('key', 'value', 'due'),
    [
        ('model.mlm_head.mask_ratio', '2', 'above 0 and below 1'),
        ('model.mlm_head.mask_ratio', '0', 'above 0 and below 1'),
        ('model.mlm_head.content_ratio', '1.5', 'above 0 and at most 1'),
        ('model.wpa_head.iterations', '0', 'at least 1'),
        ('model.wpa_head.beta', '0', 'above 0'),
        ('model.wpa_head.loss_weight', '-0.5', 'at least 0'),
        ('model.matching_every', '0', 'at least 1'),
    ],
)
def test_values_of_objectives(key, value, due):
    message = refusal(PRETRAIN, f'{key}={value}')
    assert key in message and due in message


def test_loss_weights_may_be_0_but_not_all():
    weights = [f'model.{head}.loss_weight=0' for head in ('mlm_head', 'itm_head', 'wpa_head')]
    assert 'nothing is trained' in refusal(PRETRAIN, *weights)
    load_config(PRETRAIN, weights[1:])


@pytest.mark.parametrize(
    ('options', 'due'),
    [
        (['default_hooks.checkpoint.save_best=accurcy'], "save_best is 'accurcy'.*did you mean 'accuracy'"),
        (['default_hooks.checkpoint.save_best=loss'], "save_best is 'loss', which the evaluation does not give"),
        (['default_hooks.checkpoint.save_best=["accuracy", "acc"]'], "save_best is 'acc', which .* not give"),
        (['default_hooks.checkpoint.rule=grater'], "rule is 'grater'.*did you mean 'greater'"),
        (['default_hooks.stop={"type": "EarlyStoppingHook", "monitor": "acuracy"}'], "did you mean 'accuracy'"),
        (['custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "mlm_loss"}]'], "custom_hooks.0.monitor is 'mlm_l"),
        (['val_evaluator.prefix=vqa'], "save_best is 'accuracy'.*did you mean 'vqa/accuracy'"),
        (['default_hooks.checkpoint.save_best=broken', 'default_hooks.checkpoint.rule=None'], 'Cannot infer the rule'),
        ([schedule("'ReduceOnPlateauLR'")], "monitor is 'loss', which the evaluation"),
        ([schedule("'PolyParamScheduler', 'param_name': 'lrr'")], "param_scheduler: 'lrr'"),
        ([schedule("'ConstantLR', 'begin': 9, 'end': 3")], 'param_scheduler: end should be larger than begin'),
    ],
)  # fmt: skip
def test_names_that_nothing_gives_are_told_before_the_first_epoch(options, due):
    assert re.search(due, refusal(VQA, *options))


def test_names_that_something_gives_pass():
    for name in ('accuracy_low', 'accuracy/색', 'accuracy_by_length/1-3', 'questions', 'auto'):
        load_config(VQA, [f'default_hooks.checkpoint.save_best={name}'])
    load_config(PRETRAIN, ['default_hooks.checkpoint.save_best=mlm_loss'])
    assert 'itm_loss' in refusal(PRETRAIN, 'model.itm_head=None', 'model.wpa_head=None',
                                 'default_hooks.checkpoint.save_best=itm_loss')  # fmt: skip
    load_config(VQA, ['val_evaluator=[{"type": "VQAAccuracy"}, {"type": "DumpResults", "out_file_path": "a.pkl"}]',
                      'default_hooks.checkpoint.save_best=anything'])  # fmt: skip


# Values of every kind for every number of every entry.

HOSTILE = (
    0, -1, 1, 2, 3, 7, 10**12, -(10**12), 10**400, 0.0, -0.0, 0.5, 1.5, -1e-9, 1e-300, 1e300,
    float('nan'), float('inf'), -float('inf'), True, False, None, '', '5', 'fast', '1e-3', '빠름', '\0',
    (), [], [1], [0.5, 0.5], [None], {}, {'a': 1}, {'type': 'ViLT'}, 1j, b'1', object(), int, len,
)  # fmt: skip
ENTRIES = [
    *(CONFIGS / 'rooms' / f'{name}.py' for name in ('vqa', 'pretrain', 'vqa_prefix', 'meter_vqa')),
    CONFIGS / 'kovilt_vqa_aihub.py',
    *(CONFIGS / 'ablations' / f'vqa_{name}.py' for name in ('ema', 'randaugment')),
]


@functools.cache
def entry(path):
    return load_config(path)


def numbers(path) -> list[tuple[str, ...]]:
    """The keys of all numbers, pairs of numbers and sizes from the data."""
    found = []
    for keys, value in flatten_config(entry(path).to_dict()):
        items = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(item, (int, float)) for item in items) or keys[-1] in FROM_DATA:
            found.append(keys)
    return found


KEYS = [(path, keys) for path in ENTRIES for keys in numbers(path)]


def set_value(config, keys, value):
    node = config
    for key in keys[:-1]:
        node = node[int(key) if isinstance(node, (list, tuple)) else key]
    node[int(keys[-1]) if isinstance(node, (list, tuple)) else keys[-1]] = value


def build_small(config) -> None:
    """Build the components that a config names, without memory for weights and without data; KoviltError may come."""
    import torch

    from kovilt.errors import config_errors

    with torch.device('meta'), config_errors('model'):
        model = complete_model_config(config['model'], data_sizes=DATA_SIZES)
        if model['encoder']['type'] != 'METER':  # whose parts are of other libraries, and slow to build
            build_model(model, answers=[str(number) for number in range(model['vqa_head']['num_answers'])]
                        if 'vqa_head' in model else None)  # fmt: skip
    for loader in ('train_dataloader', 'val_dataloader'):
        for step in config[loader]['dataset']['image_pipeline']:
            with config_errors('image_pipeline'):
                TRANSFORMS.build(step)
    for hook in [*config['default_hooks'].values(), *config.get('custom_hooks', ())]:
        if hook is not None:
            HOOKS.build({key: value for key, value in hook.items() if key != 'priority'})
    parameter = torch.nn.Parameter(torch.zeros(1))
    for schedule in [config['param_scheduler']]:
        optimizer = torch.optim.SGD([parameter], lr=1)
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer, end=100))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.sampled_from(KEYS),
    value=st.one_of(st.sampled_from(HOSTILE), st.integers(), st.floats(), st.text(max_size=5)),
)
def test_any_value_of_any_number_is_accepted_or_refused_in_one_line(place, value):
    path, keys = place
    config = entry(path).to_dict()
    set_value(config, keys, value)
    try:
        check_config(config)
    except KoviltError as error:
        message = str(error)
        assert '\n' not in message and len(message) < 500
        assert keys[-1] in message or keys[-2] in message, message
        return
    try:
        build_small(config)
    except KoviltError as error:  # sizes that do not fit each other
        assert '\n' not in str(error)


# Structure


@pytest.mark.parametrize(
    ('option', 'due'),
    [
        ('model=[1]', 'model is [1]; it must be a dict'),
        ('model.encoder=[1]', 'model.encoder is [1]'),
        ('optim_wrapper=3', 'optim_wrapper is 3; it must be a dict'),
        ('train_dataloader=["a"]', 'train_dataloader is'),
        ('train_dataloader.dataset.image_pipeline={"type": "LoadImage"}', 'image_pipeline'),
        ('train_dataloader.dataset.image_pipeline=[3]', 'image_pipeline.0 is 3'),
        ('custom_hooks={"type": "EMAHook"}', 'custom_hooks'),
        ('custom_hooks=[3]', 'custom_hooks.0 is 3; it must be a dict'),
        ('val_evaluator=3', 'val_evaluator is 3'),
        ('default_hooks=[1]', 'default_hooks is [1]'),
        ('randomness=5', 'randomness is 5'),
        ('env_cfg.mp_cfg=5', 'env_cfg.mp_cfg is 5'),
        ('env_cfg.mp_cfg.mp_start=fork', "did you mean 'mp_start_method'"),
        ('model.encoder.hidden_size.x=3', 'hidden_size'),
        ('compile=yes', 'compile is'),
    ],
)
def test_lists_in_place_of_dicts_and_the_reverse(option, due):
    message = refusal(VQA, option)
    assert due in message, message


OWN = f'_base_ = {str(VQA)!r}\n'


def write(path, text):
    path.write_text(text, encoding='utf-8')
    return path


@pytest.mark.parametrize(
    ('text', 'due'),
    [
        ('_base_ = 5', r'own.py:1: _base_ must be the path of a config'),
        ("_base_ = ['a.py', 5]", r'own.py:1: _base_ must be'),
        ("_base_ = {'a': 1}", r'own.py:1: _base_ must be'),
        ('_base_ = f()', r'own.py:1: _base_ must be'),
        ("_base_ = 'own.py'", 'own.py: it inherits from .*own.py, which inherits from it'),
        ("_base_ = 'other.py'", 'other.py: it inherits from .*own.py, which inherits from it'),
        ('model: dict = 1\nmodle: dict = 2', r"own.py:2: unknown top-level key 'modle' .did you mean 'model'"),
        ('model, modle = 1, 2', r"own.py:1: unknown top-level key 'modle'"),
        ('x = "\0"', 'own.py:1: a NUL byte'),
        ('import sys\nsys.exit(0)', r'own.py:2: SystemExit'),
        ('a = 1 / 0', r'own.py:1: ZeroDivisionError'),
        (OWN + 'import numpy\nrandomness = dict(seed=numpy.int64(3))', r'randomness.seed is a int64'),
        (OWN + 'model = dict(encoder=dict(num_layers=10 ** 5000))', r'num_layers is an integer of .* bits'),
        (OWN + 'model = dict(_delete_=True)', "model: missing key 'type'"),
        (OWN + 'custom_imports = "x"', 'custom_imports must be a dict'),
        ('x = 3', "own.py:1: unknown top-level key 'x'"),
        ('', "has no 'model'"),
    ],
)  # fmt: skip
def test_files_of_another_structure(tmp_path, text, due):
    write(tmp_path / 'other.py', "_base_ = 'own.py'")
    assert re.search(due, refusal(write(tmp_path / 'own.py', text)))


def test_plugins_that_cannot_be_imported_or_share_a_name_are_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    hook = 'from mmengine.hooks import Hook\nfrom kovilt.registry import HOOKS\n'
    hook += '@HOOKS.register_module()\nclass TwiceHook(Hook): pass\n'
    plugins = {
        'needs_more': ('import no_such_library', r"needs_more.py:1: ModuleNotFoundError: .*'no_such_library'"),
        'divides': ('x = 1 / 0', 'divides.py:1: ZeroDivisionError'),
        'misspelt': ('def f(:', 'misspelt.py:1: invalid syntax'),
        'leaves': ('raise SystemExit(0)', 'leaves.py:1: SystemExit'),
        'first_of_two': (hook, ''),
        'second_of_two': (hook, "second_of_two.py:3: KeyError: 'TwiceHook is already registered"),
    }  # fmt: skip
    for name, (text, due) in plugins.items():
        write(tmp_path / f'{name}.py', text)
        config = write(tmp_path / 'own.py', f'{OWN}custom_imports = dict(imports=[{name!r}])')
        if due:
            message = refusal(config)
            assert 'own.py: custom_imports: ' in message and re.search(due, message), message
        else:
            load_config(config)
    config = write(tmp_path / 'own.py', f"{OWN}custom_imports = dict(imports=['no_such_plugin'])")
    assert "No module named 'no_such_plugin'; is the package on PYTHONPATH?" in refusal(config)
