"""Damaged, planted and contradictory model files are refused in one line: at once, without memory, without changes."""

import copy
import json
import os
import random
import resource
import shutil
import subprocess
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    ANSWERS,
    tiny_checkpoint,
    tiny_model,
)

from kovilt.apis import VQAInferencer, load_trained
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import load_checkpoint_file, load_encoder, load_weights
from kovilt.weights import load_model_folder
from kovilt.weights.folder_info import size_and_digest
from kovilt.weights.stored_model import build_stored_model


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('run'))


def refused(action, naming):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(KoviltError) as caught:
        action()
    message = str(caught.value)
    assert '\n' not in message and str(naming) in message and len(message) < 600, message
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB
    return message


def edited(folder, **changes):
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    for path, value in changes.items():
        *keys, last = path.split('__')
        node = info
        for key in keys:
            node = node[key]
        if value is KeyError:
            node.pop(last, None)
        else:
            node[last] = value
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')
    return folder


def rewritten(folder, name, change):
    """Change a file of the folder and its digest with it."""
    change(folder / name)
    return edited(folder, files__x=None) and _with_digest(folder, name)


def _with_digest(folder, name):
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    info['files'].pop('x')
    info['files'][name] = size_and_digest(folder / name)
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')
    return folder


KEYS = [
    *('format', 'model', 'image_pipeline', 'max_text_len', 'vocabulary_digest', 'answer_counts', 'files', 'graph'),
    'calibration',
    *('model__type', 'model__encoder', 'model__vqa_head', 'model__vqa_head__num_answers', 'model__encoder__num_layers'),
    *('model__encoder__hidden_size', 'model__encoder__num_heads', 'model__encoder__mlp_ratio', 'normalizer'),
    *('model__encoder__vocab_size', 'model__encoder__image_size', 'model__encoder__patch_size', 'training'),
    *('files__config.json', 'files__model.safetensors', 'model__encoder__norm_eps', 'model__encoder__activation'),
]
VALUES = [KeyError, None, 'x', '', -1, 0, 10**6, 10**9, 10**30, 1.5, 1e300, True, [], {}, [[]], {'type': 'x'}, [None]]


@pytest.mark.parametrize('key', KEYS)
def test_every_value_of_kovilt_json_is_right_or_refused(folder, key, saved):
    """Whatever stands there, the folder loads as the whole one does, or one line names the file."""
    whole = load_model_folder(saved).model.state_dict()
    original = (saved / 'kovilt.json').read_bytes()
    for value in VALUES:
        (folder / 'kovilt.json').write_bytes(original)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            inferencer = VQAInferencer(edited(folder, **{key: copy.deepcopy(value)}), device='cpu')
        except KoviltError as error:
            assert '\n' not in str(error) and str(folder) in str(error), (key, value)
        else:
            state = inferencer.model.state_dict()
            assert state.keys() == whole.keys() and all(torch.equal(state[name], whole[name]) for name in whole)
        assert time.monotonic() - start < 10
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_files_that_are_not_listed_are_not_read(folder):
    refused(lambda: load_model_folder(edited(folder, files={})), folder / 'config.json')
    refused(lambda: load_model_folder(folder), 'not among the files')


@pytest.mark.parametrize('name', ['../config.json', '/etc/passwd', 'sub/config.json', '..', ''])
def test_files_outside_the_folder_are_refused(folder, name):
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    info['files'][name] = dict(bytes=1, sha256='0' * 64)
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')
    refused(lambda: load_model_folder(folder), folder)


@pytest.mark.parametrize('changes', [
    dict(num_layers=10**6), dict(hidden_size=10**9), dict(hidden_size=20_000), dict(vocab_size=10**9),
    dict(image_size=10**6), dict(patch_size=10**5), dict(mlp_ratio=1e9), dict(mlp_ratio=1e18), dict(max_text_len=10**9),
    dict(image_size=3200, pos_init='sincos'), dict(num_layers=8), dict(hidden_size=[16] * 3), dict(num_layers=0),
    dict(num_heads=0), dict(num_heads=-2), dict(hidden_size=-16), dict(mlp_ratio=0), dict(mlp_ratio=-1),
], ids=str)  # fmt: skip
def test_a_config_of_other_sizes_takes_no_memory(folder, changes):
    changes = {f'model__encoder__{key}': value for key, value in changes.items()}
    refused(lambda: load_model_folder(edited(folder, **changes)), folder)


def test_a_checkpoint_whose_config_has_other_sizes_takes_no_memory(trained, tmp_path):
    for old, new in (('num_layers=2', 'num_layers=1000000'), ('hidden_size=16', 'hidden_size=1000000000')):
        content = torch.load(trained, weights_only=True)
        assert old in content['meta']['cfg']
        content['meta']['cfg'] = content['meta']['cfg'].replace(old, new)
        torch.save(content, tmp_path / 'x.pth')
        refused(lambda: load_trained(tmp_path / 'x.pth'), 'x.pth: model.encoder.')


def test_backbones_that_compute_with_their_tables_are_built_without_memory_too(monkeypatch):
    swin = dict(type='mmpretrain.SwinTransformer', img_size=64, patch_size=4, window_size=2,
                arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1]))  # fmt: skip
    seen = []

    def build(config):
        return build_stored_model(
            config, weights={str(i): torch.empty(10**6, device='meta') for i in range(20)}, answers=[],
            compare=lambda model: seen.extend(model.parameters()), is_stored=True, source='x: model',
        )  # fmt: skip

    assert not any(parameter.is_meta for parameter in build(swin).parameters())
    assert seen and all(parameter.is_meta for parameter in seen)
    for changes in (dict(window_size=1000), dict(arch=dict(swin['arch'], depths=[10**5] * 4))):
        refused(lambda changes=changes: build(swin | changes), 'x: model')


def weights(change):
    def rewrite(file):
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return rewrite


NAME = 'vilt.layernorm.weight'
WEIGHTS = {
    'NaN': lambda t: t[NAME].fill_(float('nan')),
    'infinity': lambda t: t[NAME].fill_(float('inf')),
    'int8': lambda t: t.update({NAME: t[NAME].to(torch.int8)}),
    'bool': lambda t: t.update({NAME: t[NAME].bool()}),
    'int64': lambda t: t.update({NAME: t[NAME].long()}),
    'float8': lambda t: t.update({NAME: t[NAME].to(torch.float8_e4m3fn)}),
    'complex': lambda t: t.update({NAME: t[NAME].to(torch.complex64)}),
    'missing': lambda t: t.pop(NAME),
    'extra': lambda t: t.update({'vilt.more.weight': torch.zeros(1)}),
    'other size': lambda t: t.update({NAME: torch.zeros(17)}),
    'other axes': lambda t: t.update({NAME: torch.zeros(1, 16)}),
    'empty': lambda t: t.update({NAME: torch.zeros(0)}),
}


@pytest.mark.parametrize('case', WEIGHTS)
def test_weights_that_are_not_those_of_the_model_are_refused(folder, case):
    rewritten(folder, 'model.safetensors', weights(WEIGHTS[case]))
    refused(lambda: load_model_folder(folder), 'model.safetensors')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(folder, dtype):
    rewritten(folder, 'model.safetensors', weights(lambda t: t.update({k: v.to(dtype) for k, v in t.items()})))
    model = load_model_folder(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model.encoder.norm.weight, tiny_model().encoder.norm.weight, rtol=1e-2, atol=1e-2)


def test_weights_of_zeros_alone_are_a_warning(folder):
    rewritten(folder, 'model.safetensors', weights(lambda t: [tensor.zero_() for tensor in t.values()]))
    with pytest.warns(UserWarning, match='all its weights are zero'):
        load_model_folder(folder)


HEADER = {'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}
SAFETENSORS = {
    'empty': b'',
    'header of 2^63 bytes': (2**63).to_bytes(8, 'little') + b'{}',
    'no JSON': (4).to_bytes(8, 'little') + b'{{{{',
    'random': random.Random(0).randbytes(1000),
    'hole': HEADER | {'b': {'dtype': 'F32', 'shape': [1], 'data_offsets': [12, 16]}},
    'overlap': HEADER | {'b': {'dtype': 'F32', 'shape': [1], 'data_offsets': [4, 8]}},
    'beyond the file': {'a': {'dtype': 'F32', 'shape': [10**12], 'data_offsets': [0, 4 * 10**12]}},
    'overflow': {'a': {'dtype': 'F32', 'shape': [2**33, 2**33], 'data_offsets': [0, 8]}},
    'unknown numbers': {'a': {'dtype': 'F3', 'shape': [2], 'data_offsets': [0, 8]}},
    'negative': {'a': {'dtype': 'F32', 'shape': [-2], 'data_offsets': [0, 8]}},
}


@pytest.mark.parametrize('case', SAFETENSORS)
def test_planted_safetensors_are_refused(folder, tmp_path, case):
    content = SAFETENSORS[case]
    if isinstance(content, dict):
        header = json.dumps(content).encode()
        content = len(header).to_bytes(8, 'little') + header + bytes(8)
    (tmp_path / 'x.safetensors').write_bytes(content)
    refused(lambda: load_checkpoint_file(tmp_path / 'x.safetensors'), 'x.safetensors')
    rewritten(folder, 'model.safetensors', lambda file: file.write_bytes(content))
    refused(lambda: load_model_folder(folder), 'model.safetensors')


ANSWER_LISTS = {
    'fewer': ANSWERS[:4],
    'more': [*ANSWERS, '셋'],
    'none': [],
    'twice': [*ANSWERS[:4], ANSWERS[0]],
    'empty': [*ANSWERS[:4], ''],
    'blank': [*ANSWERS[:4], ' \u3000'],
    'number': [*ANSWERS[:4], 5],
    'null': [*ANSWERS[:4], None],
    'nested': [*ANSWERS[:4], ['네']],
}


@pytest.mark.parametrize('case', ANSWER_LISTS)
def test_answers_that_no_head_can_have_are_refused(folder, trained, tmp_path, case):
    def change(file):
        config = json.loads(file.read_text(encoding='utf-8'))
        config['id2label'] = {str(i): answer for i, answer in enumerate(ANSWER_LISTS[case])}
        file.write_text(json.dumps(config), encoding='utf-8')

    rewritten(folder, 'config.json', change)
    refused(lambda: load_model_folder(folder), 'config.json')
    content = torch.load(trained, weights_only=True)
    content['meta']['dataset_meta']['answers'] = ANSWER_LISTS[case]
    torch.save(content, tmp_path / 'x.pth')
    refused(lambda: load_trained(tmp_path / 'x.pth'), 'x.pth')


def test_id2label_of_something_else_is_refused(folder):
    for value in ('x', 5, ['네'] * 5, {'0': '네'}):
        rewritten(folder, 'config.json', lambda file, value=value: file.write_text(json.dumps({'id2label': value})))
        refused(lambda: load_model_folder(folder), 'config.json')


# Digests of bare weights


def test_weights_are_compared_with_the_digest_beside_them(folder, tmp_path):
    for name in ('model.safetensors', 'model.safetensors.sha256'):
        shutil.copy(folder / name, tmp_path / name)
    file, beside = tmp_path / 'model.safetensors', tmp_path / 'model.safetensors.sha256'
    assert subprocess.run(['sha256sum', '-c', beside.name], cwd=tmp_path, capture_output=True).returncode == 0
    content, rng = bytearray(file.read_bytes()), random.Random(0)
    assert load_checkpoint_file(file)['state_dict']
    for _ in range(20):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        refused(
            lambda: load_checkpoint_file(file), 'if you have changed it on purpose, remove model.safetensors.sha256'
        )
    file.write_bytes(content)
    for text, accepted in (
        (beside.read_text().split()[0].upper(), True),
        (beside.read_text().replace('  ', ' *'), True),
        ('', False),
        ('0' * 63, False),
        ('not a digest', False),
    ):
        beside.write_text(text)
        if accepted:
            load_checkpoint_file(file)
        else:
            refused(lambda: load_checkpoint_file(file), 'sha256: not a line of sha256sum')
    beside.unlink()
    load_checkpoint_file(file)


def test_a_folder_without_the_digest_file_is_whole_and_names_the_remedy_of_a_change(folder):
    (folder / 'model.safetensors.sha256').unlink()
    load_model_folder(folder)
    weights(lambda tensors: tensors[NAME].fill_(2.0))(folder / 'model.safetensors')
    refused(lambda: load_model_folder(folder), 'on purpose, write its bytes and sha256 into kovilt.json')
    rewritten(folder, 'model.safetensors', lambda file: None)
    assert load_model_folder(folder).model.encoder.norm.weight.eq(2).all()


# Checkpoints


def records(source, target, change=lambda name, data: (name, data), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', compression) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return target


def test_flipped_bits_of_a_checkpoint_are_found(trained, tmp_path):
    content, rng = trained.read_bytes(), random.Random(0)
    with zipfile.ZipFile(trained) as archive:  # every tensor of some size, and the pickle
        places = [info.header_offset + 200 + rng.randrange(info.file_size // 2) for info in archive.infolist()
                  if info.file_size > 500]  # fmt: skip
    assert len(places) >= 10
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / 'x.pth').write_bytes(flipped)
        assert 'CRC-32' in refused(lambda: load_checkpoint_file(tmp_path / 'x.pth'), 'x.pth')


def test_records_that_inflate_or_lie_elsewhere_are_refused(trained, tmp_path):
    bomb = records(trained, tmp_path / 'bomb.pth', compression=zipfile.ZIP_DEFLATED)
    assert 'is compressed' in refused(lambda: load_checkpoint_file(bomb), 'bomb.pth')
    for name in ('../../x', 'a/../../x', '/x', '\\x'):
        with zipfile.ZipFile(records(trained, tmp_path / 'out.pth'), 'a') as archive:
            archive.writestr(name, b'x')
        assert 'outside' in refused(lambda: load_checkpoint_file(tmp_path / 'out.pth'), 'out.pth')
    assert sorted(os.listdir(tmp_path)) == ['bomb.pth', 'out.pth']


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


PLANTED = {
    'a bytearray': dict(state_dict={}, x=Call(bytearray, 3_000_000_000)),
    'a program': dict(state_dict={}, x=Call(os.system, 'touch mark')),
    'an expanded tensor': dict(state_dict={'a': torch.zeros(1).expand(10**12)}),
    'a sparse tensor': lambda: dict(state_dict={'a': torch.eye(2).to_sparse()}),
    'a tensor without values': dict(state_dict={'a': torch.empty(10**12, device='meta')}),
    'a quantised tensor': lambda: dict(state_dict={'a': torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
    'no weights': dict(state_dict=None),
    'text as weights': dict(state_dict={'a': 'x'}),
    'numbers as names': dict(state_dict={5: torch.zeros(1)}),
    'a list as weights': dict(state_dict=[torch.zeros(1)]),
    'a list': [torch.zeros(1)],
    'a number': 5,
    'two of one name': dict(state_dict={'a': torch.zeros(1), 'module.a': torch.zeros(1)}),
    'meta as text': dict(state_dict={}, meta='x'),
    'cfg as a number': dict(state_dict={}, meta=dict(cfg=5)),
    'model_type as a list': dict(state_dict={}, meta=dict(model_type=['x'])),
    'negative epoch': dict(state_dict={}, meta=dict(epoch=-1)),
    'sizes as text': dict(state_dict={}, meta=dict(data_sizes=dict(num_answers='5'))),
    'no answers': dict(state_dict={}, meta=dict(data_sizes=dict(num_answers=0))),
    'sizes as a list': dict(state_dict={}, meta=dict(data_sizes=[5])),
    'sizes below zero': dict(state_dict={'a': torch.zeros(9)}, meta=dict(data_sizes=dict(vocab_size=-1))),
    'more tokens than weights': dict(state_dict={'a': torch.zeros(9)}, meta=dict(data_sizes=dict(vocab_size=10**10))),
    'more answers than weights': dict(state_dict={'a': torch.zeros(9)}, meta=dict(data_sizes=dict(num_answers=10))),
    'answers of numbers': dict(state_dict={}, meta=dict(dataset_meta=dict(answers=[1, 2]))),
    'answers as text': dict(state_dict={}, meta=dict(dataset_meta=dict(answers='네'))),
    'optimizer of nothing': dict(state_dict={}, optimizer=5),
    'token ids as text': dict(state_dict={}, meta=dict(data_sizes=dict(special_token_ids=['x']))),
    'negative counts': dict(state_dict={}, meta=dict(dataset_meta=dict(answer_counts=[-1]))),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('case', PLANTED)
def test_planted_checkpoints_are_refused(tmp_path, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = PLANTED[case]
    torch.save(value() if callable(value) else value, tmp_path / 'x.pth')
    refused(lambda: load_checkpoint_file(tmp_path / 'x.pth'), 'x.pth')
    assert os.listdir(tmp_path) == ['x.pth']


@pytest.mark.parametrize('case', ['a bytearray', 'a program'])
def test_planted_checkpoints_of_the_old_format_are_refused(tmp_path, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(PLANTED[case], tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    refused(lambda: load_checkpoint_file(tmp_path / 'x.pth'), 'x.pth')
    assert os.listdir(tmp_path) == ['x.pth']


def test_whole_checkpoints_of_the_old_format_are_read(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    assert load_checkpoint_file(tmp_path / 'x.pth')['state_dict']['a'].tolist() == [1, 1]


@pytest.mark.parametrize('dtype', [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_weights_that_are_no_floats_reach_no_model(dtype):
    model = tiny_model()
    state = model.state_dict()
    state['encoder.norm.weight'] = state['encoder.norm.weight'].to(dtype)
    for load in (load_weights, load_encoder):
        refused(lambda load=load: load(model, dict(state_dict=state, meta={}), 'x.pth'), 'x.pth: encoder.norm.weight')


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_weights_that_are_not_finite_reach_no_model(value):
    model = tiny_model()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state['encoder.norm.weight'][3] = float(value)
    for load in (load_weights, load_encoder):
        refused(lambda load=load: load(model, dict(state_dict=state, meta={}), 'x.pth'), 'holds NaN or infinity')


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
    state = tiny_model(seed=1).state_dict()
    torch.save({f'{prefix}{name}': tensor for name, tensor in state.items()}, tmp_path / 'x.pth')
    assert load_checkpoint_file(tmp_path / 'x.pth')['state_dict'].keys() == state.keys()


@pytest.mark.parametrize('text', [
    'model = 5', "model = dict(type='ViLTForVQA')", 'model = dict(type=5, encoder=1)', 'val_dataloader = 5',
    "val_dataloader = dict(dataset=5)", "val_dataloader = dict(dataset=dict(image_pipeline=5, text_pipeline='x'))",
    "val_dataloader = dict(dataset=dict(image_pipeline=['x'], text_pipeline=[5]))",
    "val_dataloader = dict(dataset=dict(image_pipeline=[], text_pipeline=[dict(type='NoImage', max_text_len='x')]))",
], ids=str)  # fmt: skip
def test_configs_of_other_types_in_a_checkpoint_are_refused(trained, tmp_path, text):
    content = torch.load(trained, weights_only=True)
    content['meta']['cfg'] += f'\n{text}\n'
    torch.save(content, tmp_path / 'x.pth')
    refused(lambda: load_trained(tmp_path / 'x.pth'), 'x.pth')
