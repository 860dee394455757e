"""An ONNX graph from a stranger: what kovilt does not write is refused, and memory and time are limited."""

import time

import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.weights import onnx_graph
from kovilt.weights.graph import GraphVQA
from kovilt.weights.onnx_graph import load_onnx

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from onnx import TensorProto, helper  # noqa: E402

INPUTS = [
    helper.make_tensor_value_info('input_ids', TensorProto.INT64, ['batch', 'text']),
    helper.make_tensor_value_info('text_mask', TensorProto.BOOL, ['batch', 'text']),
    helper.make_tensor_value_info('patches', TensorProto.UINT8, ['batch', 'patches', 192]),
    helper.make_tensor_value_info('grid_index', TensorProto.INT64, ['batch']),
]
BATCH = dict(
    input_ids=torch.ones(2, 3, dtype=torch.int64),
    text_mask=torch.ones(2, 3, dtype=torch.bool),
    patches=torch.zeros(8, 192, dtype=torch.uint8),
    grids=torch.tensor([[2, 2], [2, 2]]),
    image_index=torch.tensor([0, 1]),
)


def number(name, *values, kind=TensorProto.INT64, dims=None):
    return helper.make_tensor(name, kind, [len(values)] if dims is None else dims, values)


def written(tmp_path, nodes, tensors=(), inputs=INPUTS, output=('scores', TensorProto.FLOAT, ['batch', 5]), more=()):
    """A graph whose `nodes` compute `scores`, by default (batch, 5) numbers."""
    outputs = [helper.make_tensor_value_info(*output), *more]
    graph = helper.make_graph(nodes, 'graph', inputs, outputs, list(tensors))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    (tmp_path / 'model.onnx').write_bytes(model.SerializeToString())
    return tmp_path / 'model.onnx'


PLAIN = [
    helper.make_node('Cast', ['grid_index'], ['f'], to=TensorProto.FLOAT),
    helper.make_node('Unsqueeze', ['f', 'one'], ['column']),
]
ONE = number('one', 1)


def scores(*answers, tensors=()):
    """Nodes that give each pair the same scores."""
    row = helper.make_tensor('row', TensorProto.FLOAT, [1, len(answers)], answers)
    return [*PLAIN, helper.make_node('Mul', ['column', 'zero'], ['zeros']),
            helper.make_node('Add', ['zeros', 'row'], ['scores'])], [
        ONE, number('zero', 0.0, kind=TensorProto.FLOAT), row, *tensors]  # fmt: skip


def refused(action, naming='model.onnx'):
    with pytest.raises(KoviltError) as caught:
        action()
    assert naming in str(caught.value) and '\n' not in str(caught.value)
    return str(caught.value)


def answer(file, num_answers=5):
    graph = GraphVQA(load_onnx(file, num_answers), [[2, 2]], [str(i) for i in range(num_answers)])
    return graph(BATCH)


def test_a_graph_with_the_interface_of_kovilt_is_computed(tmp_path):
    results = answer(written(tmp_path, *scores(1, 2, 5, 4, 3)))
    assert [result['answer'] for result in results] == ['2', '2']


def test_other_inputs_outputs_and_answers_are_refused(tmp_path):
    nodes, tensors = scores(1, 2, 3, 4, 5)
    more = helper.make_tensor_value_info('more', TensorProto.FLOAT, [1])
    other = [helper.make_tensor_value_info('patches', TensorProto.FLOAT, ['batch', 'patches', 192])]
    for inputs in (INPUTS[:2] + INPUTS[3:], [*INPUTS, more], INPUTS[:2] + other + INPUTS[3:]):
        refused(lambda inputs=inputs: answer(written(tmp_path, nodes, tensors, inputs=inputs)))
    for output in (('zeros', TensorProto.FLOAT, ['batch', 1]), ('column', TensorProto.FLOAT, ['batch', 1])):
        refused(lambda output=output: answer(written(tmp_path, nodes, tensors, output=output)), 'is not the scores')
    extra = helper.make_tensor_value_info('column', TensorProto.FLOAT, ['batch', 1])
    refused(lambda: answer(written(tmp_path, nodes, tensors, more=[extra])), 'is not the scores')
    refused(lambda: answer(written(tmp_path, nodes, tensors), num_answers=4), 'gives 5 scores, but config.json has 4')


def test_answers_of_another_shape_or_without_numbers_are_refused_when_they_come(tmp_path):
    free = ('scores', TensorProto.FLOAT, ['batch', 'answers'])
    nodes, tensors = scores(1, 2, 3)
    assert '3' in refused(lambda: answer(written(tmp_path, nodes, tensors, output=free)), '')
    nodes, tensors = scores(1, 2, float('nan'), 4, 5)
    refused(lambda: answer(written(tmp_path, nodes, tensors)), 'finite scores')


@pytest.mark.parametrize('kind', ['ConstantOfShape', 'Expand'])
def test_memory_is_limited(tmp_path, kind):
    """32 GB that the graph describes in 200 bytes."""
    large = number('large', 8_000_000_000)
    makers = {
        'ConstantOfShape': [helper.make_node('ConstantOfShape', ['large'], ['huge'])],
        'Expand': [helper.make_node('Expand', ['zero', 'large'], ['huge'])],
    }
    nodes, tensors = scores(1, 2, 3, 4, 5)
    total = helper.make_node('ReduceSum', ['huge'], ['sum'], keepdims=0)
    last = helper.make_node('Add', ['row', 'sum'], ['row2']), helper.make_node('Add', ['zeros', 'row2'], ['scores'])
    nodes = [*makers[kind], total, *nodes[:-1], *last]
    refused(lambda: answer(written(tmp_path, nodes, [*tensors, large])), 'cannot compute it')


def test_time_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, 'MAX_SECONDS', 1.0)
    info = helper.make_tensor_value_info
    more = [helper.make_node('Identity', ['c'], ['c2']), helper.make_node('Add', ['v', 'v'], ['v2'])]
    given = [info('i', TensorProto.INT64, []), info('c', TensorProto.BOOL, []), info('v', TensorProto.FLOAT, [1, 5])]
    taken = [info('c2', TensorProto.BOOL, []), info('v2', TensorProto.FLOAT, [1, 5])]
    one_round = helper.make_graph(more, 'round', given, taken)
    nodes, tensors = scores(0, 0, 0, 0, 0)
    loop = helper.make_node('Loop', ['rounds', 'true', 'row'], ['row2'], body=one_round)
    nodes = [loop, *nodes[:-1], helper.make_node('Add', ['zeros', 'row2'], ['scores'])]
    tensors += [number('rounds', 10**15, dims=[]), number('true', True, kind=TensorProto.BOOL, dims=[])]
    file = written(tmp_path, nodes, tensors)
    start = time.monotonic()
    refused(lambda: answer(file), 'computes for more than 1 seconds')
    assert time.monotonic() - start < 8


@pytest.mark.parametrize('place', ['../secret', '/etc/hostname', 'secret', 'weights.bin'])
def test_weights_in_other_files_are_refused(tmp_path, place):
    (tmp_path / 'weights.bin').write_bytes(bytes(20))
    nodes, tensors = scores(1, 2, 3, 4, 5)
    row = TensorProto(name='row', data_type=TensorProto.FLOAT, dims=[1, 5], data_location=TensorProto.EXTERNAL)
    for key, value in (('location', place), ('offset', '0'), ('length', '20')):
        row.external_data.add(key=key, value=value)
    refused(lambda: answer(written(tmp_path, nodes, [*tensors[:2], row])), 'in another file')


@pytest.mark.parametrize('content', [b'', b'x', b'\0\0\0\0ORTM' + bytes(100), b'\x08\x09' * 100, bytes(1000)], ids=repr)
def test_files_that_are_no_onnx_are_refused(tmp_path, content):
    (tmp_path / 'model.onnx').write_bytes(content)
    refused(lambda: load_onnx(tmp_path / 'model.onnx', 5))


def test_operators_of_others_are_refused(tmp_path):
    node = helper.make_node('Evil', ['column'], ['scores'], domain='evil')
    refused(lambda: load_onnx(written(tmp_path, [*PLAIN, node], [ONE]), 5), 'cannot open it')
