"""A Triton model repository fits Triton's schema and the graph, and its README shows how to get the model's answers."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from PIL import Image
from tiny_models import ANSWERS, MAX_TEXT_LEN
from triton_stand_in import read_config, serving
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import np_to_triton_dtype

from kovilt.apis import VQAInferencer, export_checkpoint
from kovilt.errors import KoviltError
from kovilt.weights.triton import write_triton_repository

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자 ?', '의자 위에 책이 있어요 ?']


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (64, 32), (33, 200), (50, 50)]
    return [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]


@pytest.fixture
def client_code(exported, images, tmp_path, monkeypatch):
    """Runs the program of the README, which asks a stand-in of Triton; gives its names, and what it printed."""
    shutil.copytree(exported['triton'], tmp_path / 'repository')
    monkeypatch.chdir(tmp_path / 'repository')
    images[0].save('image.jpg', quality=95)
    (code,) = re.findall('```python\n(.*?)```', (tmp_path / 'repository' / 'README.md').read_text('utf-8'), re.S)
    with serving(tmp_path / 'repository') as address:
        scope = {}
        with redirect_stdout(io.StringIO()) as printed:
            exec(code.replace('127.0.0.1:8001', address), scope)
        yield scope | {'printed': printed.getvalue()}
        scope['client'].close()


def test_its_configuration_is_that_of_the_graph_by_the_schema_of_triton(exported):
    folder = exported['triton'] / 'kovilt'
    config, session = read_config(folder), onnxruntime.InferenceSession(folder / '1' / 'model.onnx')
    assert config.backend == 'onnxruntime' and config.max_batch_size == 32 and not config.name
    assert config.WhichOneof('scheduling_choice') == 'dynamic_batching' and not config.instance_group
    types = {'tensor(int64)': 'INT64', 'tensor(bool)': 'BOOL', 'tensor(uint8)': 'UINT8', 'tensor(float)': 'FP32'}

    def declared(tensors):
        return {
            one.name: (
                model_config_pb2.DataType.Name(one.data_type),
                list(one.reshape.shape if one.HasField('reshape') else one.dims),
            )
            for one in tensors
        }

    def computed(nodes):
        """Without the batch, the first axis; a name stands for any length."""
        return {
            node.name: (f'TYPE_{types[node.type]}', [-1 if isinstance(n, str) else n for n in node.shape[1:]])
            for node in nodes
        }

    assert declared(config.input) == computed(session.get_inputs())
    assert declared(config.output) == {'scores': ('TYPE_FP32', [len(ANSWERS)])}
    assert {node.shape[0] for node in (*session.get_inputs(), *session.get_outputs())} == {'batch'}
    assert (folder / config.output[0].label_filename).read_text('utf-8').splitlines() == ANSWERS
    with pytest.raises(text_format.ParseError):  # the schema knows what it does not know
        text_format.Parse('max_batchsize: 1', model_config_pb2.ModelConfig())


def test_the_program_of_its_readme_gets_the_answers_of_the_model(client_code, exported, images):
    answer, ask, client = VQAInferencer(exported['checkpoint'], device='cpu'), client_code['ask'], client_code['client']
    assert re.fullmatch(r"\['[-\d.]+:\d:\S+(', '[-\d.]+:\d:[^']+){2}'\]\n", client_code['printed'])
    for image in images:
        for question, expected in zip(QUESTIONS, answer(image, QUESTIONS), strict=True):
            found = [text.split(':', 2) for text in ask(client, image, f' {question}', topk=len(ANSWERS))]
            assert [text for _, _, text in found] == [row['answer'] for row in expected['topk']]
            assert [ANSWERS[int(number)] for _, number, _ in found] == [text for _, _, text in found]
            scores = np.exp([float(score) for score, _, _ in found])
            assert scores / scores.sum() == pytest.approx([row['score'] for row in expected['topk']], abs=1e-5)


def test_padded_requests_share_a_batch_and_their_scores_stay(client_code, exported, images):
    session = onnxruntime.InferenceSession(exported['onnx'] / 'model.onnx')
    readme = (exported['triton'] / 'README.md').read_text('utf-8')
    tokens, patches = map(
        int, re.search(r'padded to (\d+) tokens and images padded to\n(\d+) patches', readme).groups()
    )
    assert tokens == MAX_TEXT_LEN
    requests = [client_code['prepare'](image, text) for image, text in zip(images, [*QUESTIONS, '책 ?'], strict=True)]
    assert {np_to_triton_dtype(value.dtype) for value in requests[0].values()} == {'INT64', 'BOOL', 'UINT8'}
    alone, padded = [], []
    for request in requests:
        request['grid_index'] = request['grid_index'][:, 0]
        alone.append(session.run(['scores'], request)[0])
        sizes = {'input_ids': tokens, 'text_mask': tokens, 'patches': patches}
        for name, size in sizes.items():
            lacking = [(0, 0), (0, size - request[name].shape[1]), (0, 0)][: request[name].ndim]
            request[name] = np.pad(request[name], lacking)
        padded.append(request)
    together = {name: np.concatenate([request[name] for request in padded]) for name in padded[0]}
    np.testing.assert_allclose(session.run(['scores'], together)[0], np.concatenate(alone), atol=1e-5)


def copied(exported, **changes):
    """Writes the ONNX folder as an export does, with some values of its JSON files changed."""

    def write(folder, name):
        assert name == 'kovilt/1'
        shutil.copytree(exported['onnx'], folder)
        for file, change in changes.items():
            path = folder / f'{file}.json'
            content = json.loads(path.read_text('utf-8'))
            change(content)
            path.write_text(json.dumps(content), encoding='utf-8')

    return write


def test_an_int8_graph_stays_on_the_cpu_and_every_answer_has_one_line(exported, tmp_path):
    write = copied(
        exported,
        kovilt=lambda info: info['graph'].update(precision='int8'),
        config=lambda config: config['id2label'].update({'0': 'yes\nor no'}),
    )
    out = write_triton_repository(tmp_path / 'repository', write)
    (group,) = read_config(out / 'kovilt').instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert (out / 'kovilt' / 'answers.txt').read_text('utf-8').splitlines() == [r'yes\nor no', *ANSWERS[1:]]


def test_a_calibrated_repository_says_where_its_calibration_is_applied(exported, tmp_path):
    assert not read_config(exported['triton'] / 'kovilt').parameters
    assert 'Calibration' not in (exported['triton'] / 'README.md').read_text('utf-8')
    stored = dict(temperature=1.5, threshold=0.6, precision_target=0.95, abstention='모르겠음', questions=40)
    write = copied(exported, kovilt=lambda info: info.update(calibration=stored))
    out = write_triton_repository(tmp_path / 'repository', write)
    parameters = {key: value.string_value for key, value in read_config(out / 'kovilt').parameters.items()}
    assert parameters == {'temperature': '1.5', 'threshold': '0.6'}
    readme = (out / 'README.md').read_text('utf-8')
    assert 'softmax of `scores / 1.5`' in readme and 'below 0.6, the threshold, answer `모르겠음`' in readme.replace(
        '\n', ' '
    )


def test_a_repository_replaces_another_on_request_and_nothing_else(exported, tmp_path):
    out = write_triton_repository(tmp_path / 'repository', copied(exported))
    with pytest.raises(KoviltError, match='repository: exists already'):
        write_triton_repository(out, copied(exported))

    def fail(folder, name):
        folder.mkdir(parents=True)
        raise KoviltError('its scores differ')

    with pytest.raises(KoviltError, match='its scores differ'):
        write_triton_repository(out, fail, overwrite=True)
    assert read_config(out / 'kovilt') and (out / 'kovilt' / '1' / 'model.onnx').is_file()
    write_triton_repository(out, copied(exported), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ['repository']
    with pytest.raises(KoviltError, match='exists and is no Triton model repository'):
        write_triton_repository(exported['onnx'], copied(exported), overwrite=True)
    with pytest.raises(KoviltError, match='dtype float16: format triton has float32 or int8'):
        export_checkpoint(exported['checkpoint'], tmp_path / 'out', format='triton', dtype='float16')


def test_the_command_tells_its_size_and_how_far_the_graph_differs(exported, call, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        'kovilt.apis.export_checkpoint', lambda *paths, **more: asked.update(more) or exported['triton']
    )
    code, out, _ = call('export', exported['checkpoint'], 'out', '--format', 'triton')
    assert code == 0 and asked['format'] == 'triton'
    assert re.search(r'triton: \d+\.\d MB\nlargest difference to torch \S+ on 8 batches', out)
