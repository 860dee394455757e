"""A model folder or a checkpoint from a stranger runs no code: it is refused in one line before anything is built."""

import json
import sys

import pytest
import torch
from mmengine.config import Config
from tiny_models import (
    ANSWERS,
    IMAGE_PIPELINE,
    tiny_checkpoint,
    tiny_config,
)
from tiny_rooms import tiny_config as rooms_config
from torch import nn

from kovilt.apis import VQAInferencer, export_checkpoint, load_trained
from kovilt.errors import KoviltError
from kovilt.formats.plain_config import read_plain_config
from kovilt.models.sizes import build_model_or_refuse
from kovilt.registry import MODELS, TRANSFORMS, check_stored
from kovilt.weights import load_model_folder
from kovilt.weights.folder import folder_as_checkpoint


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A package beside the model that leaves a mark when it is imported or called; returns whether it has."""
    (tmp_path / 'payload').mkdir()
    mark = tmp_path / 'mark'
    for name in ('__init__', 'registry'):
        text = f'import pathlib\npathlib.Path({str(mark)!r}).touch()\ndef run(**kwargs): pass\n'
        (tmp_path / 'payload' / f'{name}.py').write_text(text, encoding='utf-8')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield lambda: mark.exists() or 'payload' in sys.modules
    for name in [name for name in sys.modules if name.split('.')[0] == 'payload']:
        del sys.modules[name]


def touch(tmp_path):
    return {'type': 'subprocess.getoutput', 'cmd': f'touch {tmp_path / "mark"}'}


def one_line(action, *, naming):
    with pytest.raises(KoviltError) as caught:
        action()
    message = str(caught.value)
    assert '\n' not in message and naming in message and 'Traceback' not in message
    return message


TYPES = [
    'subprocess.getoutput',
    'os.system',
    'builtins.exec',
    'payload',  # MMEngine imports also a bare name that no registry holds
    'payload.run',  # and payload.registry, because it takes the first part for a scope
    'payload.payload.run',
    'kovilt.files.write_text',
    'kovilt.registry.importlib.import_module',
    'mmengine.model.BaseModel',
    'mmengine.ExponentialMovingAverage',
    'mmcv.LoadImageFromFile',
    'torch.hub.load',
    'torch.nn.Linear',
    'ExponentialMovingAverage',  # of MMEngine's registry of models, but neither a layer nor a backbone
    'LoadImageFromFile',  # mmcv's: `sys_path` of its memcached backend is where to import from
    'RandomResize',  # mmcv's: builds its `resize_type`
    'PairCollate',  # of another registry
    'Pretrained',
    'mmpretrain.TIMMBackbone',  # unpickles its checkpoint_path
    'mmpretrain.HuggingFaceClassifier',
    'mmpretrain.models.TIMMBackbone',
    '',
    '.',
    'kovilt.',
    '.ViLT',
    'ViLT.',
    'ViLT\n',
    ' ViLT',
    None,
    5,
    True,
    ['subprocess.getoutput'],
    {'type': 'subprocess.getoutput'},
]


@pytest.mark.parametrize('kind', TYPES, ids=repr)
def test_no_type_but_a_registered_part_is_accepted_at_any_depth(kind, payload):
    bad = {'type': kind}
    model, deep = tiny_config(), [[{'x': ({'y': [bad]},)}]]
    for registry, config in (
        (MODELS, bad),
        (MODELS, model | bad),
        (MODELS, model | dict(data_preprocessor=bad)),
        (MODELS, model | dict(encoder=model['encoder'] | bad)),
        (MODELS, model | dict(vqa_head=model['vqa_head'] | dict(loss=deep))),
        (MODELS, model | dict(init_cfg=[bad])),
        (TRANSFORMS, [bad]),
        (TRANSFORMS, [*IMAGE_PIPELINE, bad]),
        (TRANSFORMS, [dict(IMAGE_PIPELINE[0], other=deep)]),
    ):
        one_line(
            lambda config=config, registry=registry: check_stored(config, registry, 'x.json: m'), naming='x.json: m'
        )
    assert not payload()


def test_a_scope_is_refused_at_any_depth(payload):
    for config in (
        tiny_config() | dict(_scope_='payload'),
        tiny_config() | dict(encoder=dict(tiny_config()['encoder'], _scope_='mmengine')),
    ):
        one_line(lambda config=config: check_stored(config, MODELS, 'x.json: model'), naming='_scope_')
    assert not payload()


def test_parts_of_kovilt_of_plugins_and_backbones_are_accepted(monkeypatch):
    class HeadOfAPlugin(nn.Module):
        pass

    monkeypatch.setitem(MODELS.module_dict, 'HeadOfAPlugin', HeadOfAPlugin)
    swin = dict(type='mmpretrain.SwinTransformer', act_cfg=dict(type='mmpretrain.QuickGELU'), norm_cfg=dict(type='LN'))
    for config in (
        tiny_config(),
        dict(type='kovilt.ViLTForVQA', vqa_head=dict(type='HeadOfAPlugin')),
        dict(type='METERForVQA', encoder=dict(type='METER', image_encoder=swin, init_cfg=dict(type='TruncNormal'))),
    ):
        check_stored(config, MODELS, 'x')
    check_stored([*IMAGE_PIPELINE, dict(type='CenterCrop', crop_size=(8, 8))], TRANSFORMS, 'x')


def test_names_that_a_constructor_looks_up_are_held_to_the_same_rule(payload):
    """mmpretrain's VisionTransformer builds `conv_type` of its patch_cfg, which is no `type`."""
    encoder = dict(type='mmpretrain.VisionTransformer', arch=dict(embed_dims=8, num_layers=1, num_heads=2,
                   feedforward_channels=8), img_size=32, patch_size=16)  # fmt: skip
    build = lambda **more: build_model_or_refuse(encoder | more, answers=[], source='x.json', is_stored=True)  # noqa: E731
    for name in ('payload.run', 'payload', 'subprocess.getoutput'):
        config = encoder | dict(patch_cfg=dict(conv_type=name))
        check_stored(config, MODELS, 'x')
        message = one_line(lambda: build(patch_cfg=dict(conv_type=name)), naming='x.json')  # noqa: B023
        assert 'that a file may name' in message
    assert not payload()
    assert build().num_layers == 1


PLACES = {
    'model': lambda info, bad: info.update(model=bad),
    'model.encoder': lambda info, bad: info['model'].update(encoder=bad),
    'model.data_preprocessor': lambda info, bad: info['model'].update(data_preprocessor=bad),
    'model.vqa_head.loss': lambda info, bad: info['model']['vqa_head'].update(loss=bad),
    'image_pipeline': lambda info, bad: info['image_pipeline'].append(bad),
}


@pytest.mark.parametrize('place', PLACES)
def test_no_reader_of_a_model_folder_builds_what_it_names(folder, tmp_path, place):
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    PLACES[place](info, touch(tmp_path))
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')
    before = sorted(tmp_path.rglob('*'))
    for reader in (load_model_folder, VQAInferencer, folder_as_checkpoint, load_trained):
        one_line(lambda reader=reader: reader(folder), naming=f'kovilt.json: {place}')
    for format in ('hf', 'onnx'):
        one_line(lambda format=format: export_checkpoint(folder, tmp_path / 'out', format=format), naming=place)
    assert sorted(tmp_path.rglob('*')) == before


def test_the_tools_refuse_a_folder_that_names_a_program(folder, rooms, tmp_path, call):
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    info['model']['data_preprocessor'] = touch(tmp_path)
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')
    config = rooms_config(tmp_path / 'config.py', steps=1)
    image = next((rooms / 'vqa').rglob('*.jpg'))
    for verb, *arguments in (
        ('predict', folder, image, '소파가 있어요?'),
        ('export', folder, tmp_path / 'out'),
        ('test', config, folder, '--work-dir', tmp_path / 'test'),
        ('train', config, '--load-from', folder, '--work-dir', tmp_path / 'train'),
    ):
        code, _, err = call(verb, *arguments)
        assert code == 2, (verb, err)
        last = err.strip().splitlines()[-1]
        assert last.startswith('error: ') and 'kovilt.json: model.data_preprocessor.type' in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ['config.py', 'model']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('run'))


@pytest.fixture
def checkpoint_with(trained, tmp_path):
    """A training checkpoint in whose config something has been changed."""

    def write(change):
        content = torch.load(trained, weights_only=True)
        config = Config.fromstring(content['meta']['cfg'], '.py').to_dict()
        change(config)
        content['meta']['cfg'] = Config(config).pretty_text
        torch.save(content, tmp_path / 'epoch_1.pth')
        return tmp_path / 'epoch_1.pth'

    return write


CHECKPOINT_PLACES = {
    'model.encoder': lambda config, bad: config['model'].update(encoder=bad),
    'model.data_preprocessor': lambda config, bad: config['model'].update(data_preprocessor=bad),
    'image_pipeline': lambda config, bad: config['val_dataloader']['dataset']['image_pipeline'].append(bad),
    'text_pipeline': lambda config, bad: config['val_dataloader']['dataset']['text_pipeline'].insert(0, bad),
}


@pytest.mark.parametrize('place', CHECKPOINT_PLACES)
def test_no_reader_of_a_checkpoint_builds_what_it_names(checkpoint_with, tmp_path, place):
    file = checkpoint_with(lambda config: CHECKPOINT_PLACES[place](config, touch(tmp_path)))
    before = sorted(tmp_path.rglob('*'))
    for reader in (load_trained, VQAInferencer, lambda path: export_checkpoint(path, tmp_path / 'out')):
        one_line(lambda reader=reader: reader(file), naming=f'config in {file}: {place}')
    assert sorted(tmp_path.rglob('*')) == before


def test_what_else_stands_in_a_stored_config_is_not_read(checkpoint_with, tmp_path, payload):
    """Imports, hooks and data of the config are for training; only the model and its transforms are taken."""

    def change(config):
        config |= dict(
            custom_imports=dict(imports=['payload'], allow_failed_imports=False),
            custom_hooks=[touch(tmp_path)],
            default_scope='payload',
            env_cfg=touch(tmp_path),
            visualizer=touch(tmp_path),
        )
        config['val_dataloader']['dataset']['type'] = 'subprocess.getoutput'

    assert load_trained(checkpoint_with(change)).model.answers == ANSWERS
    assert not payload()


@pytest.mark.parametrize(
    'text',
    [
        "model = __import__('os').system('touch mark')",
        "import os\nmodel = dict(type='ViLTForVQA')",
        "model = dict(type='ViLTForVQA', x=open('mark', 'w'))",
        'model = [x for x in (1, 2)]',
        "model = f'{1}'",
        'model = (lambda: 1)()',
        'model = dict(**globals())',
        'model = dict(type=payload.run)',
        "model = '{{$HOME:x}}' if True else 1",
        'model = {{$HOME:x}}',
        'del model',
        'model: int = 1',
        'model = x = 1',
        'model.type = 1',
        'model = 1\0',
        'model = ' + '[' * 3000 + ']' * 3000,
        'model = ' + '-' * 100_000 + '1',
        'model = ' + '+'.join(['1'] * 20_000),
        'model = ' + '9' * 5000,
        'model = {[]: 1}',
        'model = 1 + 2',
        "model = b'' + 1",
    ],
    ids=lambda text: text[:30],
)
def test_the_config_text_of_a_checkpoint_is_values_and_nothing_else(text, payload, tmp_path):
    one_line(lambda: read_plain_config(text, source='x.pth'), naming='x.pth')
    assert not payload() and not (tmp_path / 'mark').exists()


def test_pastes_in_the_config_text_of_a_checkpoint_are_text(monkeypatch):
    monkeypatch.setenv('SECRET', 'leaked')
    text = "a = '{{$SECRET:x}}'\nb = '{{ fileDirname }}'\nc = '{{_base_.a}}'\n"
    expected = {'a': '{{$SECRET:x}}', 'b': '{{ fileDirname }}', 'c': '{{_base_.a}}'}
    assert read_plain_config(text, source='x') == expected


def test_a_config_of_the_user_may_still_name_what_it_likes(checkpoint_with, tmp_path):
    """With `config` the model and the transforms are those of the user's own file, a program."""
    file = checkpoint_with(lambda config: config['model'].update(data_preprocessor=touch(tmp_path)))
    mine = Config.fromstring(torch.load(file, weights_only=True)['meta']['cfg'], '.py')
    mine.model.data_preprocessor = dict(type='kovilt.models.preprocessor.ViLTPreprocessor')
    mine.val_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    mine.pop('amp')
    mine.dump(tmp_path / 'mine.py')
    one_line(lambda: load_trained(file), naming='model.data_preprocessor.type')
    assert load_trained(file, config=tmp_path / 'mine.py').model.answers == ANSWERS
    assert not (tmp_path / 'mark').exists()
