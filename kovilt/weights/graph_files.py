"""Write a model as a graph file (ONNX, or .pt2 of torch.export), compare the file with the model, load it again."""

from __future__ import annotations

import io
import logging
import timeit
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from kovilt.batch import Batch
from kovilt.errors import KoviltError, first_line
from kovilt.formats.torch_file import check_torch_file
from kovilt.json_text import parse_json
from kovilt.models.answering import AnsweringModel
from kovilt.registry import TRANSFORMS
from kovilt.weights.graph import GraphChoice, GraphVQA, Grid, Inputs, PaddedVQA
from kovilt.weights.onnx_graph import import_all, load_onnx

Format = Literal['onnx', 'pt2']
Precision = Literal['float32', 'int8']

TOLERANCE = 1e-4  # of a score, in float32
INT8_TOLERANCE = 0.5  # of a score in int8, in standard deviations of all scores; a broken graph is far beyond
_NUM_BATCHES, _NUM_TIMINGS = 8, 9  # batches that are compared, calls that are timed
_MAX_ONNX_BYTES = 2**31  # limit of protobuf, in which ONNX files are written


def write_graph(
    folder: Path,
    model: AnsweringModel,
    *,
    image_pipeline: Sequence[Mapping[str, Any]],
    format: Format,
    precision: Precision = 'float32',
) -> dict[str, Any]:
    """Write `model` as a graph into `folder`, load the file again and compare its scores with the model's.

    Args:
        model: in evaluation mode, on the CPU.
        image_pipeline: transforms of an image in evaluation; its `ResizeViLT` decides which grids can come.
        precision: 'float32', or for ONNX 'int8': int8 weights with a scale for each output channel, and inputs that
            are quantised to 8 bits when a layer runs (onnxruntime's dynamic quantisation).

    Returns:
        The 'graph' entry of kovilt.json: format, precision, grids, inputs (number of batches that were compared),
        largest_difference (of any score), milliseconds and milliseconds_torch (median for one pair of the largest
        image and longest text, the second with torch in float32).

    Raises:
        KoviltError: a package is missing, the grids are not known, the ONNX file would be too large, or a score
            differs by 1e-4 or more, in int8 by half the standard deviation of the scores or more.
    """
    grids = _possible_grids(image_pipeline, model.encoder.patch_size)
    padded, answers = PaddedVQA(model, grids), getattr(model, 'answers', [])
    batches = _random_batches(model, grids)
    file = folder / f'model.{format}'
    program, shapes = _trace(padded, GraphVQA(padded, grids, answers).pad(batches[-1]))
    if format == 'onnx':
        _write_onnx(program, shapes, file)
        if precision == 'int8':
            _quantise_onnx(file)
    else:
        torch.export.save(program, file)
    graph = GraphVQA(_LOADERS[format](file, len(answers) or 1), grids, answers)

    def torch_scores(batch: Batch) -> Tensor:
        return model.scores(model.data_preprocessor(batch)).view(len(batch['input_ids']), -1)

    def milliseconds(compute: Callable[[Batch], Tensor]) -> float:
        return round(1000 * median(timeit.repeat(lambda: compute(batches[0]), number=1, repeat=_NUM_TIMINGS)), 2)

    with torch.inference_mode():
        expected = [torch_scores(batch) for batch in batches]
        difference = max(
            float((graph.scores(batch) - scores).abs().max()) for batch, scores in zip(batches, expected, strict=True)
        )
        tolerance = TOLERANCE if precision == 'float32' else INT8_TOLERANCE * float(torch.cat(expected).std())
        if not difference < tolerance:  # also for NaN
            raise KoviltError(
                f"{file.name}: its scores differ from the model's by up to {difference:.1e}, {tolerance:.0e} is "
                'allowed; nothing was written. A model with parts of your own is exported with --format hf'
            )
        return dict(
            format=format,
            precision=precision,
            grids=[list(grid) for grid in grids],
            inputs=len(batches),
            largest_difference=difference,
            milliseconds=milliseconds(graph.scores),
            milliseconds_torch=milliseconds(torch_scores),
        )


def open_graph(folder: Path, info: Mapping[str, Any], answers: Sequence[str], *, trust: bool) -> GraphVQA:
    """Load the graph of a model folder whose files have been compared with their digests; without answers it chooses.

    `info` is what `write_graph` returned. `trust` loads a .pt2 file, too, though it is a program: torch evaluates
    expressions of the file.

    Raises:
        KoviltError: a package is missing, a .pt2 without `trust`, or a file that cannot be loaded.
    """
    format, file = info['format'], folder / f'model.{info["format"]}'
    if format == 'pt2' and not trust:
        raise KoviltError(
            f'{file}: a .pt2 file is a program and may do anything on this machine; if you trust who made it, pass '
            'trust=True (on the command line --trust), else take an ONNX or HuggingFace export'
        )
    run = _LOADERS[format](file, len(answers) or 1)
    return (GraphVQA if answers else GraphChoice)(run, info['grids'], answers)


def _possible_grids(image_pipeline: Sequence[Mapping[str, Any]], patch_size: int) -> list[Grid]:
    """Rows and columns of patches of every image that the pipeline can produce."""
    resize = next((step for step in image_pipeline if str(step['type']).endswith('ResizeViLT')), None)
    if resize is None:
        raise KoviltError(
            "no ResizeViLT among the transforms of the model's images: a graph is made for a known set of sizes; "
            'export with --format hf'
        )
    return sorted({(height // patch_size, width // patch_size) for width, height in TRANSFORMS.build(resize).targets()})


def _random_batches(model: AnsweringModel, grids: Sequence[Grid]) -> list[Batch]:
    """Batches of 1, 2, ... pairs with images and texts of many sizes; the first is one pair of the largest sizes."""
    generator = torch.Generator().manual_seed(0)

    def random(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    encoder: Any = model.encoder
    batches: list[Batch] = []
    for num_pairs in range(1, _NUM_BATCHES + 1):
        num_images = 1 + num_pairs // 3  # some images have several questions
        chosen = torch.tensor(grids)[random(0, len(grids), num_images)]
        lengths = random(2, encoder.max_text_len + 1, num_pairs)
        if num_pairs == 1:
            chosen[0] = torch.tensor(max(grids, key=lambda grid: grid[0] * grid[1]))
            lengths[0] = encoder.max_text_len
        num_patches, num_tokens = int(chosen.prod(dim=1).sum()), int(lengths.max())
        batches.append(
            dict(
                patches=random(0, 256, num_patches, encoder.image.proj.in_features).to(torch.uint8),
                grids=chosen,
                image_index=random(0, num_images, num_pairs),
                input_ids=random(0, encoder.vocab_size, num_pairs, num_tokens),
                text_mask=torch.arange(num_tokens) < lengths[:, None],
            )
        )
    return batches


def _trace(padded: PaddedVQA, inputs: Inputs) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """Trace the graph on `inputs`, for any number of pairs, tokens and patches; also returns the names of its axes."""
    batch = torch.export.Dim('batch')
    text = torch.export.Dim('text', max=padded.encoder.max_text_len)
    patches = torch.export.Dim('patches', max=int(padded.counts.max()))
    shapes: dict[str, Any] = dict(
        input_ids={0: batch, 1: text},
        text_mask={0: batch, 1: text},
        patches={0: batch, 1: patches},
        grid_index={0: batch},
    )
    with torch.no_grad():
        program = torch.export.export(padded, (), inputs, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # it holds paths of this machine
    return program, shapes


def _write_onnx(program: torch.export.ExportedProgram, shapes: Mapping[str, Any], file: Path) -> None:
    import_all('onnx', 'onnxscript', 'onnxruntime')
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size >= _MAX_ONNX_BYTES:
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


def _quantise_onnx(file: Path) -> None:
    """Replace an ONNX file by its int8 form: products with weights in int8, products within attention in float32."""
    quantization = import_all('onnx', 'onnxruntime', 'onnxruntime.quantization')
    float_file = file.with_name('float32.onnx')
    file.rename(float_file)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # onnxruntime recommends a preparation that the exporter has already made
    try:
        quantization.quantize_dynamic(
            float_file,
            file,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            extra_options=dict(MatMulConstBOnly=True),
        )
    finally:
        logging.disable(disabled)
        float_file.unlink()


def _load_pt2(file: Path, num_answers: int) -> Callable[[Inputs], Tensor]:
    try:
        _check_pt2(file)
        graph = torch.export.load(file).module()
    except KoviltError:
        raise
    except Exception as error:  # a version of torch that reads another layout may raise anything
        raise KoviltError(
            f'{file}: torch {torch.__version__} cannot open it ({first_line(error)}); export it anew'
        ) from error
    return lambda inputs: graph(**inputs)


def _check_pt2(file: Path) -> None:
    """KoviltError if `torch.export.load` would unpickle objects or load machine code of the file.

    Files that kovilt writes hold neither. The check stops the most common attack; it does not make the file safe, since
    torch also evaluates its expressions for shapes.
    """
    check_torch_file(file)  # or a small record might inflate to gigabytes
    with zipfile.ZipFile(file) as archive:
        for record in archive.namelist():
            if not _is_plain(archive, record):
                raise KoviltError(f'{file}: {record} holds code or pickled objects; kovilt writes no such file')


def _is_plain(archive: zipfile.ZipFile, record: str) -> bool:
    folder, _, name = record.rpartition('/')
    if folder.endswith('sample_inputs'):
        try:
            torch.load(io.BytesIO(archive.read(record)), weights_only=True)
        except Exception:  # a planted pickle may raise anything
            return False
        return True
    if name.endswith('_config.json'):
        try:
            entries = parse_json(archive.read(record).decode(), record)['config'].values()
            return all(entry['use_pickle'] is False for entry in entries)
        except (KoviltError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
            return False
    return not ('aotinductor' in folder or name.startswith(('custom_obj', 'opaque_obj')) or name.endswith('.pt'))


_LOADERS: dict[Format, Callable[[Path, int], Callable[[Inputs], Tensor]]] = {'onnx': load_onnx, 'pt2': _load_pt2}
