"""Write a trained model as a model folder, with weights or as a graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from kovilt.apis.loading import check_tokenizer, load_trained
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.errors import KoviltError
from kovilt.weights.folder import TrainedModel, save_model_folder
from kovilt.weights.graph_files import Format
from kovilt.weights.triton import write_triton_repository

Dtype = Literal['float32', 'float16', 'int8']
ExportFormat = Literal['hf', 'triton'] | Format

_DTYPES: dict[ExportFormat, tuple[Dtype, ...]] = {
    'hf': ('float32', 'float16'),
    'onnx': ('float32', 'int8'),
    'pt2': ('float32',),
    'triton': ('float32', 'int8'),
}


def export_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    tokenizer: str | None = None,
    format: ExportFormat = 'hf',
    dtype: Dtype = 'float32',
    overwrite: bool = False,
) -> Path:
    """Load a model as `load_trained` does, with the same arguments, and write it as the model folder `out`.

    Args:
        format: 'hf', weights in HuggingFace's layout; 'onnx' or 'pt2', a graph that answers questions (`write_graph`);
            'triton', a model repository with the ONNX graph (`write_triton_repository`).
        dtype: of the stored weights: for 'hf' 'float32' or 'float16', for 'onnx' and 'triton' 'float32' or 'int8', for
            'pt2' 'float32'. An int8 graph also computes in int8, and some of its answers differ.

    Raises:
        KoviltError: as `load_trained`, `save_model_folder` and `write_graph`.
    """
    if dtype not in _DTYPES[format]:
        hint = "; in int8, export with --format onnx, or load any model folder with precision='int8'"
        raise KoviltError(
            f'dtype {dtype}: format {format} has {" or ".join(_DTYPES[format])}{hint if dtype == "int8" else ""}'
        )
    graphs = ('ViLTForVQA',) if format == 'triton' else ('ViLTForVQA', 'ViLTForMultipleChoice')
    kind = None if format == 'hf' else graphs
    trained = load_trained(path, config=config, tokenizer=tokenizer, kind=kind)
    return export_trained(trained, out, format=format, dtype=dtype, overwrite=overwrite)


def export_trained(
    trained: TrainedModel,
    out: str | os.PathLike[str],
    *,
    format: ExportFormat = 'hf',
    dtype: Dtype = 'float32',
    name: str = '',
    overwrite: bool = False,
) -> Path:
    """Write a loaded model; arguments and errors as of `export_checkpoint`, and `name` as of `save_model_folder`."""
    if format == 'triton':
        return write_triton_repository(
            out,
            lambda folder, name: export_trained(trained, folder, format='onnx', dtype=dtype, name=name),
            overwrite=overwrite,
        )
    tokens = load_tokenizer(next(step['tokenizer'] for step in trained.text_pipeline if 'tokenizer' in step))
    check_tokenizer(trained, tokens)
    return save_model_folder(
        trained.model,
        tokens,
        out,
        model_cfg=trained.info['model'],
        image_pipeline=trained.image_pipeline,
        max_text_len=trained.info['max_text_len'],
        answer_counts=trained.info['answer_counts'],
        training=trained.info['training'],
        dtype=torch.float16 if dtype == 'float16' else torch.float32,
        graph=None if format == 'hf' else (format, 'int8' if dtype == 'int8' else 'float32'),
        calibration=trained.calibration,
        image_detector=trained.image_detector if format == 'hf' else None,  # a graph gives answers alone
        name=name,
        overwrite=overwrite,
    )
