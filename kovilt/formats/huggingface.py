"""Convert state dicts between kovilt's and HuggingFace's names and shapes of a ViLT, without loss in both directions.

Besides the names three things differ: kovilt's patch embedding is a linear layer over flattened patches and
HuggingFace's is a convolution; queries, keys and values are one matrix here and three there; two parameters have a
leading axis of 1 there. HuggingFace has no class with a matching (ITM) head; its tensors get names of kovilt's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from kovilt.errors import KoviltError

# kovilt's module -> HuggingFace's; {} is the block's number. Several on the right: concatenated here in that order.
_MODULES = {
    'encoder.text.word_embed': ('vilt.embeddings.text_embeddings.word_embeddings',),
    'encoder.text.pos_embed': ('vilt.embeddings.text_embeddings.position_embeddings',),
    'encoder.text.segment_embed': ('vilt.embeddings.text_embeddings.token_type_embeddings',),
    'encoder.text.norm': ('vilt.embeddings.text_embeddings.LayerNorm',),
    'encoder.modality_embed': ('vilt.embeddings.token_type_embeddings',),
    'encoder.image.proj': ('vilt.embeddings.patch_embeddings.projection',),
    'encoder.blocks.{}.norm1': ('vilt.encoder.layer.{}.layernorm_before',),
    'encoder.blocks.{}.attn.qkv': (
        'vilt.encoder.layer.{}.attention.attention.query',
        'vilt.encoder.layer.{}.attention.attention.key',
        'vilt.encoder.layer.{}.attention.attention.value',
    ),
    'encoder.blocks.{}.attn.proj': ('vilt.encoder.layer.{}.attention.output.dense',),
    'encoder.blocks.{}.norm2': ('vilt.encoder.layer.{}.layernorm_after',),
    'encoder.blocks.{}.mlp.fc1': ('vilt.encoder.layer.{}.intermediate.dense',),
    'encoder.blocks.{}.mlp.fc2': ('vilt.encoder.layer.{}.output.dense',),
    'encoder.norm': ('vilt.layernorm',),
    'encoder.pooler': ('vilt.pooler.dense',),
    'mlm_head.fc': ('mlm_score.transform.dense',),
    'mlm_head.norm': ('mlm_score.transform.LayerNorm',),
    'mlm_head.decoder': ('mlm_score.decoder',),
    'vqa_head.fc1': ('classifier.0',),
    'vqa_head.norm': ('classifier.1',),
    'vqa_head.fc2': ('classifier.3',),
    'itm_head.fc': ('kovilt.itm_score.fc',),
}
# Parameters without a module; they have a leading axis of 1 in HuggingFace's files.
_PARAMETERS = {
    'encoder.image.cls_token': 'vilt.embeddings.cls_token',
    'encoder.image.pos_embed': 'vilt.embeddings.position_embeddings',
}
_MODULES_FROM_HF = {theirs: (ours, i) for ours, parts in _MODULES.items() for i, theirs in enumerate(parts)}
_PARAMETERS_FROM_HF = {theirs: ours for ours, theirs in _PARAMETERS.items()}


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A kovilt model's state dict under HuggingFace's names and shapes. Tensors are copied only if their shape changes.

    Raises:
        KoviltError: HuggingFace's ViLT has no such parameter.
    """
    out = {}
    for key, tensor in state.items():
        if key in _PARAMETERS:
            out[_PARAMETERS[key]] = tensor[None]
            continue
        module, number, suffix = _split(key)
        if module not in _MODULES:
            raise KoviltError(f'{key}: a parameter that no ViLT layout has a name for; save this model as a checkpoint')
        if key == 'encoder.image.proj.weight':  # (D, 3*p*p) -> (D, 3, p, p)
            side = round((tensor.shape[1] / 3) ** 0.5)
            tensor = tensor.unflatten(1, (3, side, side))
        theirs = _MODULES[module]
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            out[f'{name.format(number)}.{suffix}'] = part.contiguous()
    return out


def from_huggingface(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The inverse of `to_huggingface`. `source` names the file in errors.

    Raises:
        KoviltError: a name is unknown, or one of query, key and value is missing or of another size.
    """
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        if key in _PARAMETERS_FROM_HF:
            name = _PARAMETERS_FROM_HF[key]
            out[name] = to_kovilt_shape(name, tensor)
            continue
        module, number, suffix = _split(key)
        if module not in _MODULES_FROM_HF:
            raise KoviltError(f'{source}: {key} is no parameter of a ViLT; is this the file of another model?')
        our_module, place = _MODULES_FROM_HF[module]
        name = f'{our_module.format(number)}.{suffix}'
        parts.setdefault(name, {})[place] = to_kovilt_shape(name, tensor)
    for name, found in parts.items():
        expected = len(_MODULES[_split(name)[0]])
        if len(found) != expected:
            raise KoviltError(f'{source}: {expected - len(found)} of query, key and value is missing for {name}')
        if len({part.shape for part in found.values()}) > 1:
            raise KoviltError(f'{source}: query, key and value for {name} are of different sizes; is it complete?')
        out[name] = found[0] if expected == 1 else torch.cat([found[i] for i in range(expected)])
    return out


def to_kovilt_shape(name: str, tensor: Tensor) -> Tensor:
    """A tensor of a ViT layout in the shape of kovilt's parameter `name`: no leading axis of 1, no convolution."""
    if name in _PARAMETERS:
        return tensor.squeeze(0)
    if name == 'encoder.image.proj.weight' and tensor.ndim == 4:  # (D, 3, p, p) -> (D, 3*p*p)
        return tensor.flatten(1)
    return tensor


def _split(key: str) -> tuple[str, str, str]:
    """(module with {} for the block's number, that number or '', 'weight' or 'bias')."""
    module, _, suffix = key.rpartition('.')
    number = re.search(r'(?<=blocks\.)\d+|(?<=encoder\.layer\.)\d+', module)
    if number is None:
        return module, '', suffix
    return f'{module[: number.start()]}{{}}{module[number.end() :]}', number.group(), suffix
