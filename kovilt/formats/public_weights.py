"""Public weights of a ViLT, a ViT or a BERT as tensors under kovilt's names, with the sizes of the model.

`_LAYOUTS` are the files that are read: HuggingFace's and the original ViLT, HuggingFace's and timm's ViT, and a BERT.
Nothing that a file may hold is run. Tokenizers are not read here: the caller compares one with the word embeddings.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.formats.huggingface import HUGGINGFACE_VILT, ORIGINAL_VILT, TIMM_NAMES, from_huggingface
from kovilt.formats.layouts import TIMM_VIT, VIT, Layout, find_layout, join_names
from kovilt.formats.weight_files import WeightFiles, read_weight_files

WORD_EMBEDDINGS = 'encoder.text.word_embed.weight'
TOKEN_TABLES = (WORD_EMBEDDINGS, 'mlm_head.decoder.weight', 'mlm_head.decoder.bias')  # they have one row per token
IMAGE_POSITIONS, TEXT_POSITIONS = 'encoder.image.pos_embed', 'encoder.text.pos_embed.weight'
_MODALITIES = 'encoder.modality_embed.weight'
_DROP_RATE = 0.1  # ViLT's, where the settings of the file state none
_HEAD_DIM = 64  # of an attention head in every public ViT and ViLT

_BERT = Layout('HuggingFace BERT', r'(bert\.)?embeddings\.word_embeddings\.')
_KOVILT = Layout('kovilt', r'encoder\.(image|blocks)\.')
# Older files have a name of its own for the decoder's bias; public files have no name of kovilt's own.
_PUBLIC_NAMES = {'mlm_head.decoder.bias': ('mlm_score.bias',), 'itm_head.fc': ('itm_score.fc',)}
_LAYOUTS = (
    replace(HUGGINGFACE_VILT, names={**HUGGINGFACE_VILT.names, **_PUBLIC_NAMES}),
    ORIGINAL_VILT,
    replace(VIT, names=join_names(TIMM_NAMES, VIT.names)),
    replace(TIMM_VIT, names=join_names(TIMM_NAMES, TIMM_VIT.names)),
    _BERT,
    _KOVILT,
)
_MODELS = 'neither a ViLT, a ViT nor a BERT'


@dataclass(frozen=True)
class PublicWeights:
    """A ViLT, or a ViT as the start of one, under kovilt's names.

    files: what the files hold besides the tensors: answers, tokenizer, notes, ...
    layout: its name.
    state: float32 tensors by kovilt's names; of the modality table the first two rows.
    encoder: arguments of a `ViLT` of these sizes; without words (vocab_size, max_text_len) for a ViT.
    dropped: tensors that are not used, with the reason.
    """

    files: WeightFiles
    layout: str
    state: dict[str, Tensor]
    encoder: dict[str, Any]
    dropped: dict[str, str]


def read_public_weights(path: str | Path, *, num_heads: int | None = None) -> PublicWeights:
    """Read a ViLT or a ViT in one of `_LAYOUTS`.

    Args:
        path: a file of weights (safetensors, or a pickle of plain values), or a HuggingFace folder with one.
        num_heads: attention heads; None = as the settings of the source state, else hidden size / 64.

    Raises:
        KoviltError: not readable, another model, damaged numbers, or sizes that contradict one another.
    """
    files, source = read_weight_files(Path(os.path.expanduser(path))), str(path)
    layout = find_layout(files.state, _LAYOUTS, source=source, models=_MODELS)
    if layout is _BERT:
        raise KoviltError(f'{source}: a BERT has no part for images; give it by --bert, beside a ViLT or ViT')
    if layout is _KOVILT:
        raise KoviltError(f'{source}: weights of kovilt; kovilt export makes a model folder of a checkpoint')
    dropped = layout.find_dropped(files.state)
    first = files.state.get('classifier.0.weight')
    if first is not None and first.ndim == 2 and first.shape[0] == first.shape[1]:  # an answer head is (2D, D)
        dropped |= {key: 'head for several images (NLVR2)' for key in files.state if key.startswith('classifier.')}
    biases = [files.state[key] for key in ('mlm_score.bias', 'mlm_score.decoder.bias') if key in files.state]
    if len(biases) == 2 and not torch.equal(*biases):
        raise KoviltError(f'{source}: mlm_score.bias and mlm_score.decoder.bias differ; they are one parameter')
    used = {key: tensor for key, tensor in files.state.items() if key not in dropped}
    state = from_huggingface(used, source=source, layout=layout)
    if _MODALITIES in state and state[_MODALITIES].ndim == 2 and len(state[_MODALITIES]) > 2:
        state[_MODALITIES] = state[_MODALITIES][:2]
        dropped['modality embeddings from 2 on'] = 'further images'
    if 'mlm_head.fc.weight' in state and WORD_EMBEDDINGS in state:  # HuggingFace ties the two and saves one
        state.setdefault('mlm_head.decoder.weight', state[WORD_EMBEDDINGS])
    for key in ('image_mean', 'image_std'):
        if any(value != 0.5 for value in files.processor.get(key) or ()):
            raise KoviltError(
                f'{source}: its {key} is {files.processor[key]}, but kovilt scales images to -1..1 (0.5); take another'
            )
    encoder = _encoder_arguments(state, files.sizes, num_heads, source)
    return PublicWeights(files, layout.name, state, encoder, dropped)


def read_bert(path: str | Path) -> tuple[dict[str, Tensor], Path]:
    """Read the word embeddings of a HuggingFace BERT, and its masked-word decoder (tied to them where it has none).

    Returns the tables by kovilt's names, and the folder of its tokenizer.

    Raises:
        KoviltError: not a BERT, no tokenizer beside it, or damaged numbers.
    """
    files = read_weight_files(Path(os.path.expanduser(path)))
    layout = find_layout(files.state, _LAYOUTS, source=str(path), models=_MODELS)
    if layout is not _BERT:
        raise KoviltError(f'{path}: no BERT, but a {layout.name}; give it as the source')
    # The word embeddings of an Electra, a RoBERTa and others have the same name.
    if (model_type := files.config.get('model_type', 'bert')) != 'bert':
        raise KoviltError(f'{path}: its config.json states the model_type {model_type}; give the folder of a BERT')
    if files.tokenizer is None:
        raise KoviltError(f'{path}: no tokenizer in it (tokenizer.json or vocab.txt); give the folder of a BERT')
    state = {key.removeprefix('bert.'): tensor for key, tensor in files.state.items()}
    words = state.get('embeddings.word_embeddings.weight')
    if words is None or words.ndim != 2:
        raise KoviltError(f'{path}: it has no table of word embeddings; is the file complete?')
    tables = {WORD_EMBEDDINGS: words, 'mlm_head.decoder.weight': state.get('cls.predictions.decoder.weight', words)}
    bias = state.get('cls.predictions.bias', state.get('cls.predictions.decoder.bias'))
    if bias is not None:
        tables['mlm_head.decoder.bias'] = bias
    for key, table in tables.items():
        expected = words.shape[: table.ndim]
        if table.shape != expected:
            raise KoviltError(f'{path}: the table for {key} is {tuple(table.shape)} instead of {tuple(expected)}')
    return tables, files.tokenizer


def _encoder_arguments(
    state: Mapping[str, Tensor], stated: Mapping[str, Any], num_heads: int | None, source: str
) -> dict[str, Any]:
    """The arguments of a `ViLT` with these tensors: sizes read off the tensors and compared with the stated ones."""

    def shape(key: str) -> tuple[int, ...]:
        found = tuple(state[key].shape) if key in state else ()
        if len(found) != 2:
            shown = found or 'missing'
            raise KoviltError(f'{source}: {key} is {shown}, so the size of the model is unknown; is the file complete?')
        return found

    (hidden_size, patch_values), (positions, _) = shape('encoder.image.proj.weight'), shape(IMAGE_POSITIONS)
    patch_size, grid = math.isqrt(patch_values // 3), math.isqrt(positions - 1)
    if 3 * patch_size**2 != patch_values or grid**2 != positions - 1:
        raise KoviltError(
            f'{source}: patches of {patch_values} numbers and {positions} positions; kovilt has square RGB patches, '
            'positions of a square grid, and one CLS'
        )
    blocks = {int(number[1]) for key in state if (number := re.match(r'encoder\.blocks\.(\d+)\.', key))}
    sizes = dict(
        hidden_size=hidden_size,
        num_layers=max(blocks, default=0) + 1,
        mlp_size=shape(f'encoder.blocks.{min(blocks, default=0)}.mlp.fc1.weight')[0],
        patch_size=patch_size,
        image_size=grid * patch_size,
    )
    if WORD_EMBEDDINGS in state:
        sizes |= dict(vocab_size=shape(WORD_EMBEDDINGS)[0], max_text_len=shape(TEXT_POSITIONS)[0])
    for key, value in sizes.items():
        expected = stated.get(key, value)
        if key == 'num_layers' and isinstance(expected, int):
            sizes[key] = value = max(value, expected)  # missing last blocks are then reported as missing tensors
        if expected != value:
            raise KoviltError(
                f'{source}: its settings state {key} {expected}, its tensors have {value}; is the file complete?'
            )
    heads = num_heads or stated.get('num_heads') or hidden_size // _HEAD_DIM
    if not heads or hidden_size % heads:
        raise KoviltError(f'{source}: {heads} heads do not divide hidden_size {hidden_size}; give --num-heads')
    settings = {key: stated[key] for key in ('activation', 'norm_eps', 'init_std') if key in stated}
    settings['drop_rate'] = stated.get('drop_rate', _DROP_RATE)
    mlp_ratio = sizes.pop('mlp_size') / hidden_size
    return dict(type='ViLT', num_heads=heads, mlp_ratio=mlp_ratio, **sizes, **settings)
