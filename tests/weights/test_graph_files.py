"""Graphs answer as the model does, are written only when they do, and never run code that nobody vouched for."""

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import ANSWERS, IMAGE_PIPELINE, tiny_checkpoint, tiny_model

from kovilt.apis import VQAInferencer, export_checkpoint
from kovilt.errors import KoviltError
from kovilt.weights import graph_files, load_model_folder, write_graph

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자 ?', '의자 위에 책이 있어요 ?']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def exported(checkpoint):
    return {kind: export_checkpoint(checkpoint, checkpoint.parent / kind, format=kind) for kind in ('onnx', 'pt2')}


def images():
    chance = np.random.default_rng(0)
    shapes = [(40, 60), (64, 32), (33, 200), (50, 50), (300, 20)]
    return [chance.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_a_graph_answers_as_its_model(checkpoint, exported, kind):
    asked = [image for image in images() for _ in QUESTIONS], QUESTIONS * 5
    expected = VQAInferencer(checkpoint, device='cpu')(*asked)
    for batch_size in (1, 4, 32):
        for ours, theirs in zip(
            VQAInferencer(exported[kind], batch_size=batch_size, trust=kind == 'pt2')(*asked), expected, strict=True
        ):
            assert [row['answer'] for row in ours['topk']] == [row['answer'] for row in theirs['topk']]
            assert ours['score'] == pytest.approx(theirs['score'], abs=1e-5)
    with pytest.raises(KoviltError, match='device cuda: an exported graph computes on the CPU'):
        VQAInferencer(exported[kind], device='cuda', trust=True)


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_the_folder_says_what_it_holds_and_nothing_of_this_machine(exported, kind):
    folder = exported[kind]
    names = {file.name for file in folder.iterdir()}
    assert f'model.{kind}' in names and 'model.safetensors' not in names
    assert {'config.json', 'tokenizer.json', 'preprocessor_config.json', 'kovilt.json', 'README.md'} < names
    said = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))['graph']
    assert said['inputs'] >= 8 and 0 < said['largest_difference'] < 1e-4
    assert min(said['milliseconds'], said['milliseconds_torch']) > 0
    assert sorted(map(tuple, said['grids'])) == [
        (1, 6),
        (2, 6),
        (3, 6),
        (4, 4),
        (4, 5),
        (4, 6),
        (5, 4),
        (6, 1),
        (6, 2),
        (6, 3),
        (6, 4),
    ]
    card = (folder / 'README.md').read_text(encoding='utf-8')
    assert f'`model.{kind}` holds' in card and ('trust=True' in card) == (kind == 'pt2')
    content = (folder / f'model.{kind}').read_bytes()
    for root in (Path(torch.__file__).parents[1], Path(graph_files.__file__).parents[2]):
        assert str(root).encode() not in content


def test_the_onnx_file_alone_is_enough_for_onnxruntime(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported['onnx'] / 'model.onnx')
    assert {node.name: node.shape for node in session.get_inputs()} == {
        'input_ids': ['batch', 'text'],
        'text_mask': ['batch', 'text'],
        'patches': ['batch', 'patches', 192],
        'grid_index': ['batch'],
    }
    (scores,) = session.run(
        ['scores'],
        dict(
            input_ids=np.array([[2, 5, 3]]),
            text_mask=np.ones((1, 3), bool),
            patches=np.zeros((1, 6, 192), np.uint8),
            grid_index=np.array([0]),
        ),
    )
    assert scores.shape == (1, len(ANSWERS)) and np.isfinite(scores).all()


def test_an_int8_graph_says_so_and_answers_nearly_as_its_model(checkpoint, exported, tmp_path):
    folder = export_checkpoint(checkpoint, tmp_path / 'int8', format='onnx', dtype='int8')
    said = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))['graph']
    assert said['precision'] == 'int8' and 1e-4 < said['largest_difference'] < 0.1  # scores have a spread of 1
    assert 'Its weights are int8' in (folder / 'README.md').read_text(encoding='utf-8')
    assert sorted(file.name for file in folder.glob('*.onnx')) == ['model.onnx']
    sizes = [(place / 'model.onnx').stat().st_size for place in (folder, exported['onnx'])]
    assert sizes[0] < sizes[1]
    asked = [image for image in images() for _ in QUESTIONS], QUESTIONS * 5
    graph, model = VQAInferencer(folder), VQAInferencer(checkpoint, device='cpu')
    assert graph.precision == 'int8'
    for ours, theirs in zip(graph(*asked), model(*asked), strict=True):
        scores = {row['answer']: row['score'] for row in theirs['topk']}
        assert all(abs(row['score'] - scores[row['answer']]) < 0.03 for row in ours['topk'])
    with pytest.raises(KoviltError, match='int8: a graph has the precision that it was exported with'):
        VQAInferencer(folder, precision='int8')


def test_a_program_is_run_only_by_those_who_trust_it(exported):
    with pytest.raises(KoviltError, match='model.pt2: a .pt2 file is a program .* trust=True') as caught:
        VQAInferencer(exported['pt2'])
    assert '\n' not in str(caught.value)


class Shout:
    def __reduce__(self):
        return print, ('run',)


def rewritten(source, out, change):
    """A copy of a .pt2 file, each record passed through `change`, and one more if it says so."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out / 'model.pt2', 'w') as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return out


def torch_pickle(name, content):
    buffer = io.BytesIO()
    torch.save(((), {'x': Shout()}), buffer)
    return name, buffer.getvalue() if name.endswith('sample_inputs/model.pt') else content


def pickled_weight(name, content):
    return name, content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)


def opaque_object(name, content):
    return (f'{name[:-8]}/opaque_obj_0', pickle.dumps(Shout())) if name.endswith('weight_0') else (name, content)


@pytest.mark.parametrize('change', [torch_pickle, pickled_weight, opaque_object])
def test_pickles_are_refused_even_then(exported, tmp_path, capsys, change):
    folder = rewritten(exported['pt2'] / 'model.pt2', tmp_path, change)
    with pytest.raises(KoviltError, match='model.pt2: .* holds code or pickled objects'):
        graph_files.open_graph(folder, dict(format='pt2', grids=[[4, 4]]), ANSWERS, trust=True)
    assert capsys.readouterr().out == ''


def test_damage_is_named(exported, tmp_path):
    file = exported['onnx'] / 'model.onnx'
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(KoviltError, match='model.onnx: its sha256'):
        VQAInferencer(exported['onnx'])
    file.write_bytes(whole)
    for kind in ('onnx', 'pt2'):
        (tmp_path / f'model.{kind}').write_bytes(b'nothing of the kind')
        with pytest.raises(KoviltError, match=f'model.{kind}: .* cannot open it') as caught:
            graph_files.open_graph(tmp_path, dict(format=kind, grids=[[4, 4]]), ANSWERS, trust=True)
        assert '\n' not in str(caught.value)


def test_weights_are_not_read_out_of_a_graph(exported, tmp_path):
    with pytest.raises(KoviltError, match='holds a graph, weights are needed here'):
        load_model_folder(exported['onnx'])
    with pytest.raises(KoviltError, match='holds a graph, weights are needed here'):
        export_checkpoint(exported['onnx'], tmp_path / 'out')


def test_what_is_compared_is_varied():
    batches = graph_files._varied_batches(tiny_model(), graph_files._grids(IMAGE_PIPELINE, 8))
    assert [len(batch['input_ids']) for batch in batches] == list(range(1, 9))
    largest = [int(batch['grids'].prod(dim=1).max()) for batch in batches]
    longest = [batch['text_mask'].shape[1] for batch in batches]
    assert (largest[0], longest[0]) == (24, 12) == (max(largest), max(longest))
    assert len(set(largest)) > 2 and len(set(longest)) > 2


@pytest.mark.parametrize('wrong', [1.0, float('nan')])
def test_a_graph_that_differs_is_not_written(checkpoint, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(graph_files, '_trace', lambda rectangle, inputs: (None, {}))
    monkeypatch.setattr(torch.export, 'save', lambda program, file: file.touch())
    scores = torch.tensor([[wrong] * len(ANSWERS)])
    monkeypatch.setitem(graph_files._OPEN, 'pt2', lambda file: lambda inputs: scores.expand(len(inputs['patches']), -1))
    with pytest.raises(KoviltError, match='differ from the model.s by up to .* nothing was written'):
        export_checkpoint(checkpoint, tmp_path / 'out', format='pt2')
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_graph_is_named(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(KoviltError, match='no ResizeViLT'):
        write_graph(tmp_path, tiny_model(), image_pipeline=[dict(type='NoImage')], format='pt2')
    for kind, dtype, has in (
        ('onnx', 'float16', 'float32 or int8'),
        ('pt2', 'int8', 'float32; in int8, export with'),
        ('hf', 'int8', "float32 or float16; .* any model folder with precision='int8'"),
    ):
        with pytest.raises(KoviltError, match=f'dtype {dtype}: format {kind} has {has}'):
            export_checkpoint(checkpoint, tmp_path / 'out', format=kind, dtype=dtype)
    body = tiny_checkpoint(tmp_path / 'body', 'ViLTForPreTraining')
    with pytest.raises(KoviltError, match='a ViLTForVQA is needed'):
        export_checkpoint(body, tmp_path / 'out', format='onnx')
    huge = SimpleNamespace(state_dict={'weight': torch.empty(2**29, device='meta')})
    monkeypatch.setattr(graph_files, '_trace', lambda rectangle, inputs: (huge, {}))
    with pytest.raises(KoviltError, match='2.0 GiB of weights: ONNX holds less'):
        write_graph(tmp_path, tiny_model(), image_pipeline=IMAGE_PIPELINE, format='onnx')


def test_a_missing_package_is_named_with_its_command(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(KoviltError, match='onnxruntime is not installed; run: pip install onnxruntime'):
        VQAInferencer(exported['onnx'])
