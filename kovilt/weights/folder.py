"""The model folder: a trained model as one folder, in the layout of HuggingFace's ViLT.

    config.json                 ViltConfig with the answers as id2label
    model.safetensors           weights under HuggingFace's names
    kovilt_heads.safetensors    of pre-training models: the matching head, for which HuggingFace has no place
    tokenizer.json, ...         the tokenizer
    preprocessor_config.json    ViltImageProcessor
    kovilt.json                 what these do not say: model config, pipelines, training, size and digest of every file
    README.md                   model card

`transformers.ViltForQuestionAnswering.from_pretrained(folder)` opens it, and so does `kovilt.apis.VQAInferencer`.
Nothing in it is executed on loading: JSON and safetensors only.

With the encoder `PrefixViLT`, which computes something else on the same parameters, the folder is for kovilt alone:
config.json declares a model type of its own, and the weights lie in prefix_model.safetensors, because transformers only
warns of another type and then answers, differently.

For other runtimes the weights can be replaced by a graph, model.onnx or model.pt2, which answers but cannot be trained.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import kovilt
from kovilt.errors import KoviltError
from kovilt.formats.huggingface import from_huggingface, to_huggingface
from kovilt.models.sizes import build_model
from kovilt.modules import PrefixViLT
from kovilt.weights.card import model_card
from kovilt.weights.graph import GraphVQA
from kovilt.weights.graph_files import open_graph

FORMAT = 1
NORMALIZER = 'normalize_korean'
_ARCHITECTURES = {'ViLTForVQA': 'ViltForQuestionAnswering', 'ViLTForPreTraining': 'ViltForMaskedLM'}
_WEIGHTS, _OWN_WEIGHTS, _INFO, _CARD = 'model.safetensors', 'kovilt_heads.safetensors', 'kovilt.json', 'README.md'
_PREFIX_WEIGHTS = 'prefix_model.safetensors'


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode on the CPU, how its images and texts are prepared, and what else is known of it."""

    model: BaseModel | GraphVQA
    image_pipeline: list[dict[str, Any]]
    text_pipeline: list[dict[str, Any]]
    info: dict[str, Any]


def save_model_folder(
    model: BaseModel,
    tokenizer: Any,
    out: str | Path,
    *,
    model_cfg: Mapping[str, Any],
    image_pipeline: Sequence[Mapping[str, Any]],
    max_text_len: int,
    answer_counts: Sequence[int] | None = None,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    graph: Callable[[Path], Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes `out` whole or not at all and returns its path.

    Args:
        model: a `ViLTForVQA` that knows its answers, or a `ViLTForPreTraining`.
        tokenizer: a HuggingFace tokenizer of the size that the model was trained with.
        out: the folder to make.
        model_cfg: the config that `model` was built from, with every size filled in.
        image_pipeline: transforms of an image in evaluation.
        max_text_len: where texts are cut, in tokens.
        answer_counts: how often training saw each answer.
        training: plain values worth knowing later (epochs, seed, scores, ...).
        dtype: what the weights are stored in; they are always read back as float32.
        graph: writes the model into a folder as a graph, in place of its weights, and returns what kovilt.json says of
            it (`write_graph`).
        overwrite: replace an older model folder.

    Raises:
        KoviltError: `out` exists or cannot be written, a weight is not finite, or sizes disagree.
    """
    from kovilt.datasets.transforms.text import tokenizer_sizes

    out = Path(os.path.abspath(Path(out).expanduser()))
    _check_place(out, overwrite)
    kind = str(model_cfg.get('type', '')).rpartition('.')[2]
    if kind not in _ARCHITECTURES:
        raise KoviltError(f'model type {kind!r}: no model folder can hold it; it holds {" and ".join(_ARCHITECTURES)}')
    if len(tokenizer) > model.encoder.vocab_size:
        raise KoviltError(f'tokenizer of {len(tokenizer)} tokens, but the model knows {model.encoder.vocab_size}')
    state = {key: tensor.detach().to(dtype).cpu() for key, tensor in _weights(model).items()}
    _check_finite(state, kind)  # also what float16 cannot hold
    theirs = to_huggingface(state)
    own = {key: theirs.pop(key) for key in list(theirs) if key.startswith('kovilt.')}

    part = out.with_name(f'.{out.name}.{os.getpid()}.part')
    try:
        part.mkdir(parents=True)
        said = {}
        if graph is not None:
            said['graph'] = dict(graph(part))
        else:
            save_file(theirs, part / _weights_file(model), metadata={'format': 'pt'})
            if own:
                save_file(own, part / _OWN_WEIGHTS, metadata={'format': 'pt'})
        config = _huggingface_config(model, kind, tokenizer.pad_token_id)
        _write_json(part / 'config.json', config)
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.model_max_length = max_text_len
        tokenizer.save_pretrained(part)
        processor = _image_processor(image_pipeline)
        if processor:
            _write_json(part / 'preprocessor_config.json', processor)
        info = {
            'format': FORMAT,
            'kovilt_version': kovilt.__version__,
            'model': dict(model_cfg),
            'image_pipeline': [dict(step) for step in image_pipeline],
            'max_text_len': max_text_len,
            'normalizer': NORMALIZER,
            'vocabulary_digest': tokenizer_sizes(tokenizer)['vocabulary_digest'],
            'answer_counts': None if answer_counts is None else list(answer_counts),
            'training': dict(training or {}),
            **said,
            'files': {file.name: digest(file) for file in sorted(part.iterdir())},
        }
        _write_json(part / _INFO, info)
        card = model_card(out.name, config, info, parameters=sum(tensor.numel() for tensor in state.values()))
        (part / _CARD).write_text(card, encoding='utf-8')
        _move_into_place(part, out)
    except OSError as error:
        raise KoviltError(f'{out}: not written ({error.strerror or error}); choose another place') from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def load_model_folder(
    path: str | Path, *, kind: str | tuple[str, ...] | None = None, graphs: bool = False, trust: bool = False
) -> TrainedModel:
    """Reads a folder that `save_model_folder` wrote, after comparing every file with its size and digest.

    Args:
        path: the folder.
        kind: the model class that is wanted, such as 'ViLTForVQA', or several; None takes any.
        graphs: a folder that holds a graph will do, which can answer but has no weights.
        trust: a graph in a .pt2 file, which is a program, may be run.

    Raises:
        KoviltError: no model folder, a file missing, cut off or changed, a newer format, weights that do not fit or are
            not finite, answers that do not fit, a graph where weights are needed.
    """
    path = Path(path).expanduser()
    if not (path / _INFO).is_file():
        why = 'no such folder' if not path.is_dir() else f'no model folder: it has no {_INFO}'
        raise KoviltError(f'{path}: {why}; tools/weights/export.py makes one from a checkpoint')
    info = read_json(path / _INFO)
    if info.get('format') != FORMAT:
        raise KoviltError(f'{path / _INFO}: format {info.get("format")!r}, this kovilt reads {FORMAT}; update kovilt')
    _check_files(path, info)
    model_cfg = info['model']
    check_kind(model_cfg['type'], kind, path)
    if 'graph' in info and not graphs:
        raise KoviltError(f'{path}: holds a graph, weights are needed here; name the model that it was exported from')
    if 'graph' in info:
        answers = _read_answers(path, model_cfg['vqa_head']['num_answers'])
        model = open_graph(path, info['graph'], answers, trust=trust)
    else:
        model = _read_model(path, model_cfg)
    text_pipeline = [dict(type='TokenizeKorean', tokenizer=str(path), max_text_len=info['max_text_len'])]
    return TrainedModel(model, info['image_pipeline'], text_pipeline, info)


def folder_as_checkpoint(path: str | Path) -> dict[str, Any]:
    """A model folder in the form of a training checkpoint: its `state_dict` and the `meta` that a run compares.

    Training starts from a model folder, and evaluates one, through this.
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


def _read_model(path: Path, model_cfg: Mapping[str, Any]) -> BaseModel:
    """The model of `model_cfg` with the weights and answers of the folder, in evaluation mode."""
    answers = _read_answers(path, model_cfg['vqa_head']['num_answers']) if 'vqa_head' in model_cfg else None
    try:
        model = build_model(model_cfg, answers=answers)
    except (KeyError, TypeError, ValueError) as error:
        raise KoviltError(f'{path / _INFO}: its model cannot be built ({error})') from error

    weights = path / _weights_file(model)
    state = _read_weights(weights)
    if (path / _OWN_WEIGHTS).is_file():
        state |= _read_weights(path / _OWN_WEIGHTS)
    state = from_huggingface(state, source=str(weights))
    _check_finite(state, str(weights))
    wanted = _weights(model)
    for key in [*wanted, *(key for key in state if key not in wanted)]:
        shapes = [tuple(tensors[key].shape) if key in tensors else 'missing' for tensors in (state, wanted)]
        if shapes[0] != shapes[1]:
            raise KoviltError(f'{weights}: {key} is {shapes[0]}, but the model of {_INFO} has {shapes[1]}')
    model.load_state_dict(state, strict=False)
    return model.eval()


def _weights_file(model: BaseModel) -> str:
    return _PREFIX_WEIGHTS if isinstance(model.encoder, PrefixViLT) else _WEIGHTS


def _check_place(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise KoviltError(f'{out}: exists already; choose another name or ask for overwriting')
    if not (out / _INFO).is_file():
        raise KoviltError(f'{out}: exists and is no model folder, so it is not overwritten; choose another name')


def _move_into_place(part: Path, out: Path) -> None:
    """The old folder stands until the new one can take its name."""
    old = out.with_name(f'.{out.name}.{os.getpid()}.old')
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def check_kind(found: str | None, kind: str | tuple[str, ...] | None, source: str | Path) -> None:
    """KoviltError unless the model class `found` is what is wanted: one name, one of several, or None for any."""
    wanted = (kind,) if isinstance(kind, str) else kind
    if wanted is not None and found not in wanted:
        raise KoviltError(f'{source}: holds a {found}, a {" or ".join(wanted)} is needed here')


def _huggingface_config(model: BaseModel, kind: str, pad_token_id: int) -> dict[str, Any]:
    """The fields of ViltConfig, read off the model itself; what HuggingFace's ViLT cannot compute has its own type."""
    encoder = model.encoder
    prefix = isinstance(encoder, PrefixViLT)
    config = {
        'architectures': [kind if prefix else _ARCHITECTURES[kind]],
        'model_type': 'kovilt_prefix_vilt' if prefix else 'vilt',
        'vocab_size': encoder.vocab_size,
        'type_vocab_size': 2,
        'modality_type_vocab_size': 2,
        'max_position_embeddings': encoder.max_text_len,
        'hidden_size': encoder.hidden_size,
        'num_hidden_layers': len(encoder.blocks),
        'num_attention_heads': encoder.blocks[0].attn.num_heads,
        'intermediate_size': encoder.blocks[0].mlp.fc1.out_features,
        'hidden_act': encoder.activation,
        'hidden_dropout_prob': encoder.text.dropout.p,
        'attention_probs_dropout_prob': 0.0,
        'initializer_range': encoder.init_std,
        # One value for all norms there. The text's own is kept: its inputs are small enough to feel the difference.
        'layer_norm_eps': encoder.text.norm.eps,
        'image_size': encoder.image_size,
        'patch_size': encoder.patch_size,
        'num_channels': 3,
        'qkv_bias': True,
        'max_image_length': -1,
        'pad_token_id': pad_token_id,
        'dtype': 'float32',
    }
    if hasattr(model, 'vqa_head'):
        names, answers = len(set(model.answers)), model.vqa_head.num_answers
        if names != answers:
            raise KoviltError(f'the answer head has {answers} answers, but {names} different names are known for them')
        config['id2label'] = {str(i): answer for i, answer in enumerate(model.answers)}
        config['label2id'] = {answer: i for i, answer in enumerate(model.answers)}
    return config


def _image_processor(image_pipeline: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """ViltImageProcessor's settings for the same resizing; None when images are not looked at."""
    resize = next((step for step in image_pipeline if str(step['type']).endswith('ResizeViLT')), None)
    return resize and {
        'image_processor_type': 'ViltImageProcessor',
        'processor_class': 'ViltProcessor',
        'do_resize': True,
        'size': {'shortest_edge': resize['short']},
        'size_divisor': resize['divisor'],
        'resample': 3,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': [0.5] * 3,
        'image_std': [0.5] * 3,
        'do_pad': True,
    }


def _read_answers(path: Path, expected: int) -> list[str]:
    """The answers of the model folder `path`."""
    labels = read_json(path / 'config.json').get('id2label') or {}
    return answers_by_class(labels, expected, source=f'{path / "config.json"}: id2label')


def answers_by_class(labels: Mapping[str, str], expected: int, *, source: str) -> list[str]:
    """The answers in the order of their classes, from {'0': answer, ...}; KoviltError unless there are `expected`."""
    try:
        answers = [labels[str(i)] for i in range(len(labels))]
    except KeyError as error:
        raise KoviltError(f'{source} has {len(labels)} answers but none of number {error}') from error
    if len(answers) != expected:
        raise KoviltError(f'{source} has {len(answers)} answers, the answer head {expected}')
    return answers


def _weights(model: BaseModel) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in model.state_dict().items() if not key.startswith('data_preprocessor.')}


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise KoviltError(f'{source}: {key} holds NaN or infinity; take an earlier checkpoint')


def _check_files(path: Path, info: Mapping[str, Any]) -> None:
    for name, expected in info['files'].items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise KoviltError(f'{file}: missing from the model folder; copy the folder again')
        size = file.stat().st_size
        if size != expected['bytes']:
            raise KoviltError(f'{file}: {size} bytes instead of {expected["bytes"]}; copy the folder again')
        if digest(file) != expected:
            raise KoviltError(f'{file}: its sha256 is not that of {_INFO}; copy the folder again')


def digest(file: Path) -> dict[str, int | str]:
    with file.open('rb') as content:
        return {'bytes': file.stat().st_size, 'sha256': hashlib.file_digest(content, 'sha256').hexdigest()}


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise KoviltError(f'{file}: not a safetensors file, or cut off ({error})') from error


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise KoviltError(f'{file}: cannot be read as JSON ({error})') from error
    if not isinstance(content, dict):
        raise KoviltError(f'{file}: not a JSON object')
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + '\n', encoding='utf-8')
