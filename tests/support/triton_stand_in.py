"""A server that answers tritonclient's gRPC requests as Triton does: by a model repository, through onnxruntime.

It reads config.pbtxt by Triton's own schema, compares each tensor of a request with it, and gives scores as labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype


def read_config(model: Path) -> Any:
    """The ModelConfig of a model's folder; raises text_format.ParseError if the schema has no such field or value."""
    return text_format.Parse((model / 'config.pbtxt').read_text('utf-8'), model_config_pb2.ModelConfig())


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, repository: Path) -> None:
        self._models = {folder.parent.name: folder for folder in repository.glob('*/1')}

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        try:
            return self._answer(request)
        except Exception as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, repr(error))

    def _answer(self, request: Any) -> Any:
        version = self._models[request.model_name]
        config = read_config(version.parent)
        declared = {one.name: one for one in config.input}
        feeds = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            one = declared.pop(tensor.name)
            batch, *axes = tensor.shape
            assert model_config_pb2.DataType.Name(one.data_type) == f'TYPE_{tensor.datatype}', tensor.name
            assert 1 <= batch <= config.max_batch_size and len(axes) == len(one.dims), tensor.name
            assert all(length in (-1, found) for length, found in zip(one.dims, axes, strict=True)), tensor.name
            shape = [batch, *(one.reshape.shape if one.HasField('reshape') else axes)]
            feeds[tensor.name] = np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(shape)
        assert not declared, declared
        (wanted,), (output,) = request.outputs, config.output
        (scores,) = onnxruntime.InferenceSession(version / 'model.onnx').run([wanted.name], feeds)
        assert scores.shape == (batch, *output.dims)
        labels = (version.parent / output.label_filename).read_text('utf-8').splitlines()
        count = wanted.parameters['classification'].int64_param
        rows = [[f'{row[i]:f}:{i}:{labels[i]}' for i in np.argsort(-row)[:count]] for row in scores]
        tensor = service_pb2.ModelInferResponse.InferOutputTensor(
            name=wanted.name, datatype='BYTES', shape=[batch, count]
        )
        content = serialize_byte_tensor(np.array(rows, dtype=object)).item()
        return service_pb2.ModelInferResponse(outputs=[tensor], raw_output_contents=[content])


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The address, on loopback, at which the models of a repository are served."""
    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(StandIn(repository), server)
    port = server.add_insecure_port('127.0.0.1:0')
    server.start()
    try:
        yield f'127.0.0.1:{port}'
    finally:
        server.stop(None).wait()
