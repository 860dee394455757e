"""Graphs answer as the model does, are written only if they do, and run code of a file only for those who trust it."""

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
def checkpoint(exported):
    return exported['checkpoint']


def images():
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (64, 32), (33, 200), (50, 50), (300, 20)]
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_a_graph_answers_as_its_model(checkpoint, exported, kind):
    pairs = [image for image in images() for _ in QUESTIONS], QUESTIONS * 5
    expected = VQAInferencer(checkpoint, device='cpu')(*pairs)
    for batch_size in (1, 4, 32):
        for ours, theirs in zip(
            VQAInferencer(exported[kind], batch_size=batch_size, trust=kind == 'pt2')(*pairs), expected, strict=True
        ):
            assert [row['answer'] for row in ours['topk']] == [row['answer'] for row in theirs['topk']]
            assert ours['score'] == pytest.approx(theirs['score'], abs=1e-5)
    with pytest.raises(KoviltError, match='device cuda: '):
        VQAInferencer(exported[kind], device='cuda', trust=True)


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_the_folder_describes_its_graph_and_holds_no_paths_of_this_machine(exported, kind):
    folder = exported[kind]
    names = {file.name for file in folder.iterdir()}
    assert f'model.{kind}' in names and 'model.safetensors' not in names
    assert {'config.json', 'tokenizer.json', 'preprocessor_config.json', 'kovilt.json', 'README.md'} < names
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))['graph']
    assert info['inputs'] >= 8 and 0 < info['largest_difference'] < 1e-4
    assert min(info['milliseconds'], info['milliseconds_torch']) > 0
    assert sorted(map(tuple, info['grids'])) == [
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


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_a_graph_has_the_permissions_of_any_new_file(exported, tmp_path, kind):
    (tmp_path / 'new').touch()
    mode = (tmp_path / 'new').stat().st_mode
    assert {file.stat().st_mode for file in exported[kind].iterdir()} == {mode}


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


def test_an_int8_graph_is_declared_and_answers_nearly_as_its_model(checkpoint, exported, tmp_path):
    folder = export_checkpoint(checkpoint, tmp_path / 'int8', format='onnx', dtype='int8')
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))['graph']
    assert info['precision'] == 'int8' and 1e-4 < info['largest_difference'] < 0.1  # scores have a spread of 1
    assert 'The weights are int8' in (folder / 'README.md').read_text(encoding='utf-8')
    assert sorted(file.name for file in folder.glob('*.onnx')) == ['model.onnx']
    sizes = [(place / 'model.onnx').stat().st_size for place in (folder, exported['onnx'])]
    assert sizes[0] < sizes[1]
    pairs = [image for image in images() for _ in QUESTIONS], QUESTIONS * 5
    graph, model = VQAInferencer(folder), VQAInferencer(checkpoint, device='cpu')
    assert graph.precision == 'int8'
    for ours, theirs in zip(graph(*pairs), model(*pairs), strict=True):
        scores = {row['answer']: row['score'] for row in theirs['topk']}
        assert all(abs(row['score'] - scores[row['answer']]) < 0.03 for row in ours['topk'])
    with pytest.raises(KoviltError, match='int8: a graph has the precision that it was exported with'):
        VQAInferencer(folder, precision='int8')


def test_a_pt2_program_runs_only_with_trust(exported):
    with pytest.raises(KoviltError, match='model.pt2: a .pt2 file is a program .* trust=True') as caught:
        VQAInferencer(exported['pt2'])
    assert '\n' not in str(caught.value)


class Print:
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
    torch.save(((), {'x': Print()}), buffer)
    return name, buffer.getvalue() if name.endswith('sample_inputs/model.pt') else content


def pickled_weight(name, content):
    return name, content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)


def opaque_object(name, content):
    return (f'{name[:-8]}/opaque_obj_0', pickle.dumps(Print())) if name.endswith('weight_0') else (name, content)


@pytest.mark.parametrize('change', [torch_pickle, pickled_weight, opaque_object])
def test_pickles_in_a_pt2_file_are_refused_even_with_trust(exported, tmp_path, capsys, change):
    folder = rewritten(exported['pt2'] / 'model.pt2', tmp_path, change)
    with pytest.raises(KoviltError, match='model.pt2: .* holds code or pickled objects'):
        graph_files.open_graph(folder, dict(format='pt2', grids=[[4, 4]]), ANSWERS, trust=True)
    assert capsys.readouterr().out == ''


def test_a_damaged_graph_is_refused_by_name(exported, tmp_path):
    file = exported['onnx'] / 'model.onnx'
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(KoviltError, match='model.onnx: its sha256'):
        VQAInferencer(exported['onnx'])
    file.write_bytes(whole)
    for kind in ('onnx', 'pt2'):
        (tmp_path / f'model.{kind}').write_bytes(b'nothing of the kind')
        with pytest.raises(KoviltError, match=f'model.{kind}: .*(cannot open it|neither a zip)') as caught:
            graph_files.open_graph(tmp_path, dict(format=kind, grids=[[4, 4]]), ANSWERS, trust=True)
        assert '\n' not in str(caught.value)


def test_a_graph_has_no_weights_to_export(exported, tmp_path):
    with pytest.raises(KoviltError, match='holds a graph, weights are needed here'):
        load_model_folder(exported['onnx'])
    with pytest.raises(KoviltError, match='holds a graph, weights are needed here'):
        export_checkpoint(exported['onnx'], tmp_path / 'out')


def test_a_graph_is_compared_on_batches_of_many_sizes():
    batches = graph_files._random_batches(tiny_model(), graph_files._possible_grids(IMAGE_PIPELINE, 8))
    assert [len(batch['input_ids']) for batch in batches] == list(range(1, 9))
    largest = [int(batch['grids'].prod(dim=1).max()) for batch in batches]
    longest = [batch['text_mask'].shape[1] for batch in batches]
    assert (largest[0], longest[0]) == (24, 12) == (max(largest), max(longest))
    assert len(set(largest)) > 2 and len(set(longest)) > 2


@pytest.mark.parametrize('wrong', [1.0, float('nan')])
def test_a_graph_that_differs_is_not_written(checkpoint, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(graph_files, '_trace', lambda padded, inputs: (None, {}))
    monkeypatch.setattr(torch.export, 'save', lambda program, file: file.touch())
    scores = torch.tensor([[wrong] * len(ANSWERS)])
    monkeypatch.setitem(
        graph_files._LOADERS, 'pt2', lambda file, num_answers: lambda inputs: scores.expand(len(inputs['patches']), -1)
    )
    with pytest.raises(KoviltError, match='differ from the model.s by up to .* nothing was written'):
        export_checkpoint(checkpoint, tmp_path / 'out', format='pt2')
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_a_graph_is_refused_with_the_reason(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(KoviltError, match='no ResizeViLT'):
        write_graph(tmp_path, tiny_model(), image_pipeline=[dict(type='NoImage')], format='pt2')
    for kind, dtype, has in (
        ('onnx', 'float16', 'float32 or int8'),
        ('pt2', 'int8', 'float32; in int8, export with'),
        ('hf', 'int8', "float32 or float16; .* any model folder with precision='int8'"),
    ):
        with pytest.raises(KoviltError, match=f'dtype {dtype}: format {kind} has {has}'):
            export_checkpoint(checkpoint, tmp_path / 'out', format=kind, dtype=dtype)
    pretrained = tiny_checkpoint(tmp_path / 'pretrained', 'ViLTForPreTraining')
    with pytest.raises(KoviltError, match='a ViLTForVQA or ViLTForMultipleChoice is needed'):
        export_checkpoint(pretrained, tmp_path / 'out', format='onnx')
    huge = SimpleNamespace(state_dict={'weight': torch.empty(2**29, device='meta')})
    monkeypatch.setattr(graph_files, '_trace', lambda padded, inputs: (huge, {}))
    with pytest.raises(KoviltError, match='2.0 GiB of weights: ONNX holds less'):
        write_graph(tmp_path, tiny_model(), image_pipeline=IMAGE_PIPELINE, format='onnx')


def test_a_missing_package_is_refused_with_the_command_that_installs_it(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(KoviltError, match=r"onnxruntime is not installed; run: pip install 'kovilt\[export\]'"):
        VQAInferencer(exported['onnx'])
