"""The model folder: a trained model as one folder, in the layout of HuggingFace's ViLT.

    config.json                 ViltConfig with the answers as id2label
    model.safetensors           weights under HuggingFace's names
    model.safetensors.sha256    their digest, for `sha256sum -c` and for reading the weights without the folder
    kovilt_heads.safetensors    of pre-training models: the matching head, which HuggingFace's classes do not have
    tokenizer.json, ...         the tokenizer
    preprocessor_config.json    ViltImageProcessor
    image_detector-*.safetensors    what tells images unlike training, where `kovilt distance` has fitted it
    kovilt.json                 the rest: model config, pipelines, training, size and digest of every file
    README.md                   model card

`transformers.ViltForQuestionAnswering.from_pretrained(folder)` loads it, and so does `kovilt.apis.VQAInferencer`.
Loading executes nothing of it: it is JSON and safetensors only.

A folder with the encoder `PrefixViLT`, which computes something else on the same parameters, is for kovilt alone:
config.json declares another model type, and the weights are in prefix_model.safetensors, because transformers only
warns of another type and would then give wrong answers.

For other runtimes the weights can be replaced by a graph, model.onnx or model.pt2, which answers but cannot be trained.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

import kovilt
from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, write_json, write_text
from kovilt.formats.huggingface import from_huggingface, to_huggingface
from kovilt.formats.tensor_files import (
    DIGEST_SUFFIX,
    check_values,
    load_safetensors,
    read_safetensors_sizes,
    save_safetensors,
)
from kovilt.modules import PrefixViLT
from kovilt.weights.calibration import Calibration
from kovilt.weights.card import model_card
from kovilt.weights.folder_info import (
    CARD,
    FORMAT,
    HEADS,
    INFO,
    NORMALIZER,
    PREFIX_WEIGHTS,
    WEIGHTS,
    read_answers,
    read_folder_info,
    size_and_digest,
)
from kovilt.weights.graph_files import Format, Precision, open_graph, write_graph
from kovilt.weights.huggingface_config import ARCHITECTURES, image_processor_config, vilt_config
from kovilt.weights.image_detector import ImageDetector, read_image_detector, write_image_detector
from kovilt.weights.stored_model import build_stored_model


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what is needed to use it.

    model: in evaluation mode on the CPU; a `GraphVQA` if the folder holds a graph.
    image_pipeline, text_pipeline: transforms of an image and of a text, as configs.
    info: kovilt.json of a model folder, or the same keys read from a checkpoint.
    source: of a checkpoint its file, step and kind of weights.
    image_detector: of a model folder that has one.
    """

    model: Any
    image_pipeline: list[dict[str, Any]]
    text_pipeline: list[dict[str, Any]]
    info: dict[str, Any]
    source: str = ''
    image_detector: ImageDetector | None = None

    @property
    def calibration(self) -> Calibration | None:
        return Calibration.from_info(self.info)


def save_model_folder(
    model: BaseModel,
    tokenizer: Any,
    out: str | os.PathLike[str],
    *,
    model_cfg: Mapping[str, Any],
    image_pipeline: Sequence[Mapping[str, Any]],
    max_text_len: int,
    answer_counts: Sequence[int] | None = None,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    graph: tuple[Format, Precision] | None = None,
    calibration: Calibration | None = None,
    image_detector: ImageDetector | None = None,
    name: str = '',
    overwrite: bool = False,
) -> Path:
    """Write the folder `out` completely or not at all; returns its absolute path.

    Args:
        model: a `ViLTForVQA` that has its `answers`, a `ViLTForMultipleChoice` or a `ViLTForPreTraining`.
        tokenizer: the HuggingFace tokenizer that the model was trained with.
        model_cfg: the config that `model` was built from, with every size filled in.
        image_pipeline: transforms of an image in evaluation.
        max_text_len: tokens to which texts are cut.
        answer_counts: how often each answer occurred in training.
        training: plain values worth knowing later (epochs, seed, scores, ...).
        dtype: of the stored weights; they are always read back as float32.
        graph: format and precision of `write_graph`, to write a graph in place of the weights.
        calibration, image_detector: of the model, which the folder keeps.
        name: of the model in its card; '' = that of the folder.

    Raises:
        KoviltError: `out` exists or cannot be written, a weight is not finite, or sizes disagree.
    """
    from kovilt.datasets.transforms.text import tokenizer_sizes

    out = Path(os.path.abspath(os.path.expanduser(out)))
    check_destination(out, overwrite)
    kind = str(model_cfg.get('type', '')).rpartition('.')[2]
    if kind not in ARCHITECTURES:
        raise KoviltError(f'model type {kind!r}: no model folder can hold it; it holds {" and ".join(ARCHITECTURES)}')
    if len(tokenizer) > model.encoder.vocab_size:
        raise KoviltError(
            f'the tokenizer has {len(tokenizer)} tokens, but the model only {model.encoder.vocab_size}; give its own'
        )
    state = {key: tensor.detach().to(dtype).cpu() for key, tensor in _model_state(model).items()}
    _check_finite(state, kind)  # after the cast: float16 may overflow
    weights = to_huggingface(state)
    heads = {key: weights.pop(key) for key in list(weights) if key.startswith('kovilt.')}

    with atomic_folder(out) as draft:
        graph_info = None
        if graph is not None:
            graph_info = write_graph(draft, model, image_pipeline=image_pipeline, format=graph[0], precision=graph[1])
        else:
            save_safetensors(weights, draft / _weights_file(model))
            if heads:
                save_safetensors(heads, draft / HEADS)
        config = vilt_config(model, kind, tokenizer.pad_token_id)
        write_json(draft / 'config.json', config)
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.model_max_length = max_text_len
        tokenizer.save_pretrained(draft)
        processor = image_processor_config(image_pipeline)
        if processor is not None:
            write_json(draft / 'preprocessor_config.json', processor)
        info: dict[str, Any] = {
            'format': FORMAT,
            'kovilt_version': kovilt.__version__,
            'model': dict(model_cfg),
            'image_pipeline': [dict(step) for step in image_pipeline],
            'max_text_len': max_text_len,
            'normalizer': NORMALIZER,
            'vocabulary_digest': tokenizer_sizes(tokenizer)['vocabulary_digest'],
            'answer_counts': None if answer_counts is None else list(answer_counts),
            'training': dict(training or {}),
        }
        if graph_info is not None:
            info['graph'] = graph_info
        if calibration is not None:
            info['calibration'] = calibration.to_json()
        if image_detector is not None:
            info['image_detector'] = write_image_detector(draft, image_detector)
        files = [file for file in sorted(draft.iterdir()) if file.suffix != DIGEST_SUFFIX]
        info['files'] = {file.name: size_and_digest(file) for file in files}
        write_json(draft / INFO, info)
        card = model_card(
            name or out.name, config, info, num_parameters=sum(tensor.numel() for tensor in state.values())
        )
        write_text(draft / CARD, card)
    return out


def load_model_folder(
    path: str | os.PathLike[str],
    *,
    kind: str | tuple[str, ...] | None = None,
    graphs: bool = False,
    trust: bool = False,
) -> TrainedModel:
    """Load a folder that `save_model_folder` wrote, after comparing every file with its size and digest.

    Args:
        kind: the required model class, such as 'ViLTForVQA', or several; None = any.
        graphs: accept a folder that holds a graph, which can answer but has no weights.
        trust: run a graph in a .pt2 file, which is a program.

    Raises:
        KoviltError: not a model folder, or a newer format; a file is missing, cut off or changed; weights or answers
            do not fit; a graph where weights are needed.
    """
    path = Path(os.path.expanduser(path))
    info = read_folder_info(path)
    model_cfg = info['model']
    check_kind(model_cfg['type'], kind, path)
    if info.get('graph') and not graphs:
        raise KoviltError(f'{path}: holds a graph, weights are needed here; name the model that it was exported from')
    answers = read_answers(path, model_cfg, info)
    model: Any
    if info.get('graph'):
        model = open_graph(path, info['graph'], answers, trust=trust)
    else:
        model = _load_model(path, model_cfg, answers)
    text_pipeline = [dict(type='TokenizeKorean', tokenizer=str(path), max_text_len=info['max_text_len'])]
    detector = None if info.get('graph') else read_image_detector(path, info)
    return TrainedModel(model, info['image_pipeline'], text_pipeline, info, image_detector=detector)


def folder_as_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A model folder in the form of a training checkpoint: its `state_dict`, and the `meta` that the runner compares.

    The runner starts training from a model folder, and evaluates one, through this.
    """
    from kovilt.datasets.transforms.text import load_tokenizer, tokenizer_sizes

    trained = load_model_folder(path)
    meta: dict[str, Any] = {
        'model_type': type(trained.model).__name__,
        'encoder_type': type(trained.model.encoder).__name__,
        'data_sizes': tokenizer_sizes(load_tokenizer(path)),
        'dataset_meta': {},
    }
    answers = list(getattr(trained.model, 'answers', ()))
    if answers:
        meta['data_sizes']['num_answers'] = len(answers)
        meta['dataset_meta'] = {'answers': answers, 'answer_counts': trained.info.get('answer_counts')}
    return {'state_dict': trained.model.state_dict(), 'meta': meta}


def check_kind(found: str | None, kind: str | tuple[str, ...] | None, source: str | Path) -> None:
    """KoviltError unless the model class `found` is the required one: a name, one of several, or None for any."""
    required = (kind,) if isinstance(kind, str) else kind
    if required is not None and found not in required:
        raise KoviltError(f'{source}: holds a {found}, a {" or ".join(required)} is needed here')


def _load_model(path: Path, model_cfg: Mapping[str, Any], answers: Sequence[str]) -> BaseModel:
    """The model of `model_cfg` with the weights of the folder, in evaluation mode."""
    weights = path / next((name for name in (PREFIX_WEIGHTS, WEIGHTS) if (path / name).is_file()), WEIGHTS)
    files = [file for file in (weights, path / HEADS) if file == weights or file.is_file()]
    stored = {key: tensor for file in files for key, tensor in read_safetensors_sizes(file).items()}
    sizes = from_huggingface(stored, source=str(weights))

    def compare(model: BaseModel) -> None:
        if _weights_file(model) != weights.name:
            raise KoviltError(
                f'{path / INFO}: its encoder has its weights in {_weights_file(model)}, not {weights.name}'
            )
        expected = _model_state(model)
        for key in [*expected, *(key for key in sizes if key not in expected)]:
            found, needed = (
                tuple(tensors[key].shape) if key in tensors else 'missing' for tensors in (sizes, expected)
            )
            if found != needed:
                raise KoviltError(f'{weights}: {key} is {found}, but the model of {INFO} has {needed}')

    model = build_stored_model(
        model_cfg, weights=sizes, compare=compare, answers=answers, source=f'{path / INFO}: model', is_stored=True
    )
    state = {key: tensor for file in files for key, tensor in load_safetensors(file).items()}
    state = from_huggingface(state, source=str(weights))
    check_values(state, _model_state(model), weights, 'copy the folder again')
    model.load_state_dict(state, strict=False)
    return model.eval()


def _model_state(model: BaseModel) -> dict[str, Tensor]:
    """The model's tensors without the preprocessor's, which the config alone decides."""
    return {key: tensor for key, tensor in model.state_dict().items() if not key.startswith('data_preprocessor.')}


def _weights_file(model: BaseModel) -> str:
    return PREFIX_WEIGHTS if isinstance(model.encoder, PrefixViLT) else WEIGHTS


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise KoviltError(f'{source}: {key} holds NaN or infinity; take an earlier checkpoint')


def check_destination(out: Path, overwrite: bool, *, kind: str = 'model folder', holds: str = INFO) -> None:
    """KoviltError if `out` is not free, or, when it may be overwritten, does not hold what folders of its kind do."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise KoviltError(f'{out}: exists already; choose another name or ask for overwriting')
    if not (out / holds).is_file():
        raise KoviltError(f'{out}: exists and is no {kind}, so it is not overwritten; choose another name')
