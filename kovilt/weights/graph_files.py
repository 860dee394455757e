"""Graphs as files: written, compared with torch, and opened again. ONNX for onnxruntime, .pt2 for torch.export."""

from __future__ import annotations

import importlib
import io
import json
import logging
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.vqa import ViLTForVQA
from kovilt.registry import TRANSFORMS
from kovilt.weights.graph import GraphVQA, Grid, Inputs, RectangularVQA

Format = Literal['onnx', 'pt2']
Precision = Literal['float32', 'int8']

FILES: dict[Format, str] = {'onnx': 'model.onnx', 'pt2': 'model.pt2'}
TOLERANCE = 1e-4  # of a score, in float32
INT8_TOLERANCE = 0.5  # of a score in int8, over the standard deviation of all: a broken graph is far beyond
_INPUTS, _REPEATS = 8, 9  # batches that are compared, runs that are timed
_ONNX_BYTES = 2**31  # what protobuf, the format of ONNX files, can hold


def write_graph(
    folder: Path,
    model: ViLTForVQA,
    *,
    image_pipeline: Sequence[Mapping[str, Any]],
    format: Format,
    precision: Precision = 'float32',
) -> dict[str, Any]:
    """Writes `model` as a graph into `folder` and compares what was written, opened again, with the model.

    Args:
        folder: where the file goes.
        model: in evaluation mode, on the CPU.
        image_pipeline: transforms of an image in evaluation; its `ResizeViLT` says which grids can come.
        format: 'onnx' or 'pt2'.
        precision: 'float32', or of ONNX 'int8': weights in int8, with a scale for each output, and what is multiplied
            by them brought to 8 bits as it comes (onnxruntime's dynamic quantisation).

    Returns:
        What kovilt.json says of it: format, precision, grids, inputs (that were compared), largest_difference (of any
        score), milliseconds and milliseconds_torch (median for one pair, of the largest image and longest text, in
        torch in float32).

    Raises:
        KoviltError: a package is missing, the images' grids are not known, a file of ONNX would be too large, or a
            score differs by 1e-4 or more, in int8 by half the scores' standard deviation or more.
    """
    grids = _grids(image_pipeline, model.encoder.patch_size)
    rectangle = RectangularVQA(model, grids)
    batches = _varied_batches(model, grids)
    file = folder / FILES[format]
    program, shapes = _trace(rectangle, GraphVQA(rectangle, grids, model.answers).spread(batches[-1]))
    if format == 'onnx':
        _write_onnx(program, shapes, file)
        if precision == 'int8':
            _make_int8(file)
    else:
        torch.export.save(program, file)
    graph = GraphVQA(_OPEN[format](file), grids, model.answers)

    def by_torch(batch: Batch) -> Tensor:
        return model.scores(model.data_preprocessor(batch))

    with torch.inference_mode():
        expected = [by_torch(batch) for batch in batches]
        difference = max(
            float((graph.scores(batch) - scores).abs().max()) for batch, scores in zip(batches, expected, strict=True)
        )
        spread = float(torch.cat(expected).std())
        allowed = TOLERANCE if precision == 'float32' else INT8_TOLERANCE * spread
        if not difference < allowed:  # also NaN
            raise KoviltError(
                f"{file.name}: its scores differ from the model's by up to {difference:.1e}, {allowed:.0e} is "
                'allowed; nothing was written. A model with parts of your own is exported with --format hf'
            )
        return dict(
            format=format,
            precision=precision,
            grids=[list(grid) for grid in grids],
            inputs=len(batches),
            largest_difference=difference,
            milliseconds=_milliseconds(graph.scores, batches[0]),
            milliseconds_torch=_milliseconds(by_torch, batches[0]),
        )


def open_graph(folder: Path, said: Mapping[str, Any], answers: Sequence[str], *, trust: bool) -> GraphVQA:
    """The graph of a model folder, whose files have been compared with their digests.

    Args:
        folder: the folder.
        said: what `write_graph` returned.
        answers: in label order.
        trust: also opens a .pt2, which is a program: torch evaluates expressions of the file.

    Raises:
        KoviltError: a package is missing, a .pt2 without `trust`, or a file that cannot be opened.
    """
    file = folder / FILES[said['format']]
    if said['format'] == 'pt2' and not trust:
        raise KoviltError(
            f'{file}: a .pt2 file is a program and may do anything on this machine; if you trust who made it, pass '
            'trust=True (on the command line --trust), else take an ONNX or HuggingFace export'
        )
    return GraphVQA(_OPEN[said['format']](file), said['grids'], answers)


def _grids(image_pipeline: Sequence[Mapping[str, Any]], patch_size: int) -> list[Grid]:
    """Rows and columns of patches of every image that the pipeline can give."""
    resize = next((step for step in image_pipeline if str(step['type']).endswith('ResizeViLT')), None)
    if resize is None:
        raise KoviltError(
            "no ResizeViLT among the steps of the model's images: a graph is made for a known set of sizes; "
            'export with --format hf'
        )
    return sorted({(height // patch_size, width // patch_size) for width, height in TRANSFORMS.build(resize).targets()})


def _varied_batches(model: ViLTForVQA, grids: Sequence[Grid]) -> list[Batch]:
    """Batches of 1, 2, ... pairs, of images and texts of many sizes; the first is the largest single pair."""
    chance = torch.Generator().manual_seed(0)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=chance)

    batches, longest = [], model.encoder.max_text_len
    for pairs in range(1, _INPUTS + 1):
        images = 1 + pairs // 3  # some are asked about more than once
        chosen, lengths = torch.tensor(grids)[draw(0, len(grids), images)], draw(2, longest + 1, pairs)
        if pairs == 1:
            chosen[0], lengths[0] = torch.tensor(max(grids, key=lambda grid: grid[0] * grid[1])), longest
        width = int(lengths.max())
        batches.append(
            Batch(
                patches=draw(0, 256, int(chosen.prod(dim=1).sum()), model.encoder.image.proj.in_features).to(
                    torch.uint8
                ),
                grids=chosen,
                image_index=draw(0, images, pairs),
                input_ids=draw(0, model.encoder.vocab_size, pairs, width),
                text_mask=torch.arange(width) < lengths[:, None],
            )
        )
    return batches


def _trace(rectangle: RectangularVQA, inputs: Inputs) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The graph of any number of pairs, tokens and patches, traced on `inputs`, with its axes' names."""
    batch = torch.export.Dim('batch')
    text = torch.export.Dim('text', max=rectangle.encoder.max_text_len)
    patches = torch.export.Dim('patches', max=int(rectangle.counts.max()))
    shapes = dict(
        input_ids={0: batch, 1: text},
        text_mask={0: batch, 1: text},
        patches={0: batch, 1: patches},
        grid_index={0: batch},
    )
    with torch.no_grad():
        program = torch.export.export(rectangle, (), inputs, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # where the code lies on this machine is nobody's business
    return program, shapes


def _write_onnx(program: torch.export.ExportedProgram, shapes: Mapping[str, Any], file: Path) -> None:
    _need('onnx', 'onnxscript', 'onnxruntime')
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size >= _ONNX_BYTES:
        raise KoviltError(f'{size / 2**30:.1f} GiB of weights: ONNX holds less than 2; export with --format pt2')
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '# The axis name')  # inputs share their axes on purpose
        torch.onnx.export(
            program,
            kwargs=dict(program.example_inputs[1]),
            f=file,
            dynamo=True,
            verbose=False,
            external_data=False,
            dynamic_shapes=dict(shapes),
            input_names=list(shapes),
            output_names=['scores'],
        )


def _make_int8(file: Path) -> None:
    """Replaces an ONNX file by its int8 form: the products with weights alone, not those of attention."""
    quantization = _need('onnx', 'onnxruntime', 'onnxruntime.quantization')
    whole = file.with_name('float32.onnx')
    file.rename(whole)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends to prepare what is prepared
    try:
        quantization.quantize_dynamic(
            whole,
            file,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            extra_options=dict(MatMulConstBOnly=True),
        )
    finally:
        logging.disable(disabled)
        whole.unlink()


def _open_onnx(file: Path) -> Callable[[Inputs], Tensor]:
    """By onnxruntime, with as many threads as torch has."""
    runtime = _need('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(file, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its own classes, which share no base but this
        raise KoviltError(f'{file}: onnxruntime cannot open it ({_first_line(error)}); copy it again') from error
    return lambda inputs: torch.from_numpy(
        session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    )


def _open_pt2(file: Path) -> Callable[[Inputs], Tensor]:
    try:
        _refuse_pickles(file)
        graph = torch.export.load(file).module()
    except KoviltError:
        raise
    except Exception as error:  # another torch reads another layout, and fails in its own ways
        raise KoviltError(
            f'{file}: torch {torch.__version__} cannot open it ({_first_line(error)}); export it anew'
        ) from error
    return lambda inputs: graph(**inputs)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _refuse_pickles(file: Path) -> None:
    """Refuses what `torch.export.load` would unpickle or load as machine code. Files that kovilt writes hold neither.

    This keeps the commonest attack out; it does not make the file data: expressions for its shapes are evaluated too.
    """
    with zipfile.ZipFile(file) as archive:
        for record in archive.namelist():
            if not _is_plain(archive, record):
                raise KoviltError(f'{file}: {record} holds code or pickled objects; kovilt writes no such file')


def _is_plain(archive: zipfile.ZipFile, record: str) -> bool:
    folder, _, name = record.rpartition('/')
    if folder.endswith('sample_inputs'):
        try:
            torch.load(io.BytesIO(archive.read(record)), weights_only=True)
        except Exception:  # whatever the unpickler raises
            return False
        return True
    if name.endswith('_config.json'):
        return not any(entry['use_pickle'] for entry in json.loads(archive.read(record))['config'].values())
    return not ('aotinductor' in folder or name.startswith(('custom_obj', 'opaque_obj')) or name.endswith('.pt'))


_OPEN: dict[Format, Callable[[Path], Callable[[Inputs], Tensor]]] = {'onnx': _open_onnx, 'pt2': _open_pt2}


def _need(*packages: str) -> Any:
    """The last of `packages`, imported; KoviltError with the command that brings those that are missing."""
    try:
        return [importlib.import_module(package) for package in packages][-1]
    except ImportError as error:
        raise KoviltError(f'{error.name} is not installed; run: pip install {" ".join(packages)}') from error


def _milliseconds(answer: Callable[[Batch], Tensor], batch: Batch) -> float:
    seconds = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        answer(batch)
        seconds.append(time.perf_counter() - begin)
    return round(1000 * median(seconds), 2)
