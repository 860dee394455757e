"""Read a file of public weights, or a HuggingFace folder with one, as it stands: tensors, sizes and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.files import file_sha256, read_json
from kovilt.formats.checkpoint import load_checkpoint_file
from kovilt.formats.fields import Field, check_field, check_fields
from kovilt.formats.tensor_files import FLOATS

_WEIGHT_FILES = ('model.safetensors', 'pytorch_model.bin')
_TRAINERS = ('pytorch_lightning.', 'lightning.', 'lightning_fabric.', 'sacred.', 'argparse.')
_MAX_WEIGHT = 65504.0  # the largest float16; trained weights are far below, one flipped bit may be far above
_INDEX_BUFFERS = ('position_ids', 'relative_position_index')  # integer tensors that are no weights
# Argument of a ViLT -> the key of config.json. The settings of the original code have the names of the arguments.
_CONFIG_KEYS = dict(
    hidden_size='hidden_size',
    num_layers='num_hidden_layers',
    num_heads='num_attention_heads',
    mlp_size='intermediate_size',
    patch_size='patch_size',
    image_size='image_size',
    vocab_size='vocab_size',
    max_text_len='max_position_embeddings',
    activation='hidden_act',
    drop_rate='hidden_dropout_prob',
    norm_eps='layer_norm_eps',
    init_std='initializer_range',
)
_SIZE = Field(int, low=1)
_SHARE = Field(float, low=0, high=1)
_SIZES = dict(
    **dict.fromkeys(('hidden_size', 'num_layers', 'num_heads', 'mlp_size', 'patch_size', 'image_size'), _SIZE),
    **dict.fromkeys(('vocab_size', 'max_text_len'), _SIZE),
    activation=Field(str),
    drop_rate=_SHARE,
    norm_eps=_SHARE,
    init_std=Field(float, low=0),
)
_PROCESSOR = dict(image_mean=Field(list, items=Field(float)), image_std=Field(list, items=Field(float)))
_SETTINGS = ('hidden_size', 'num_layers', 'num_heads', 'vocab_size', 'max_text_len', 'drop_rate')


@dataclass(frozen=True)
class WeightFiles:
    """What a file of weights and the files beside it hold.

    state: tensors in float32, by the names that they have in the file.
    config: config.json; empty if there is none.
    sizes: what config.json or the settings of a Lightning file state, by the names of `ViLT`'s arguments.
    processor: preprocessor_config.json; empty if there is none.
    tokenizer: the folder, if it holds a tokenizer.
    sha256: of the file of weights.
    notes: for the user, in words.
    """

    path: Path
    state: dict[str, Tensor]
    config: dict[str, Any]
    sizes: dict[str, Any]
    processor: dict[str, Any]
    tokenizer: Path | None
    sha256: str
    notes: tuple[str, ...]


def read_weight_files(path: Path) -> WeightFiles:
    """Read a file of weights (safetensors, or a pickle of plain values), or a HuggingFace folder with one.

    No code that the files may hold is run.

    Raises:
        KoviltError: not readable, a model folder of kovilt, or damaged numbers.
    """
    file, config, processor, tokenizer = path, {}, {}, None
    if path.is_dir():
        if (path / 'kovilt.json').is_file():
            raise KoviltError(f'{path}: a model folder of kovilt already; train and predict with it as it is')
        found = next((path / name for name in _WEIGHT_FILES if (path / name).is_file()), None)
        if found is None:
            raise KoviltError(f'{path}: it holds neither {" nor ".join(_WEIGHT_FILES)}; name the file of weights')
        file = found
        config, processor = (
            read_json(path / name) if (path / name).is_file() else {}
            for name in ('config.json', 'preprocessor_config.json')
        )
        tokenizer = path if any((path / name).is_file() for name in ('tokenizer.json', 'vocab.txt')) else None
    content = load_checkpoint_file(file, placeholder_packages=_TRAINERS)
    state, notes = _clean_state(content['state_dict'], file)
    stated = {ours: config[theirs] for ours, theirs in _CONFIG_KEYS.items() if config.get(theirs) is not None}
    if isinstance(stated.get('image_size'), list) and len(set(stated['image_size'])) == 1:
        stated['image_size'] = stated['image_size'][0]
    settings = content.get('hyper_parameters')  # of Lightning; the original code has them under 'config'
    settings = settings.get('config', settings) if isinstance(settings, Mapping) else None
    if isinstance(settings, Mapping):
        stated |= {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    check_fields(stated, _SIZES, f'{path}: its settings')
    check_fields(processor, _PROCESSOR, f'{path / "preprocessor_config.json"}')
    size = processor.get('size')
    side = size.get('shortest_edge') if isinstance(size, dict) else size
    if side is not None:
        check_field(side, Field(int, low=1), f'{path / "preprocessor_config.json"}: size')
    return WeightFiles(path, state, config, stated, processor, tokenizer, file_sha256(file, 'weights'), notes)


def _clean_state(state: Mapping[str, Tensor], file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors as float32; and notes.

    Raises:
        KoviltError: a value is quantised, not finite or beyond float16's range.
    """
    clean: dict[str, Tensor] = {}
    converted: set[str] = set()
    for name, tensor in state.items():
        dtype = str(tensor.dtype).removeprefix('torch.')
        if tensor.dtype not in FLOATS and not name.endswith(_INDEX_BUFFERS):
            raise KoviltError(f'{file}: {name} holds {dtype}; quantised weights are not read')
        clean[name] = tensor.float()
        if tensor.numel() and not clean[name].abs().max() <= _MAX_WEIGHT:  # also for NaN
            raise KoviltError(
                f'{file}: {name} holds NaN, infinity or numbers beyond {_MAX_WEIGHT:,.0f}; get the file again'
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            converted.add(dtype)
    return clean, tuple(f'numbers of {dtype}, read as float32' for dtype in sorted(converted))
