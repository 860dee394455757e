"""The names and shapes of HuggingFace's ViLT against kovilt's: the same numbers under another name, nothing lost.

Three things differ beside the names: kovilt's patch embedder is a linear layer over flattened patches where
HuggingFace has a convolution, queries, keys and values are one matrix here and three there, and two parameters carry a
leading axis of 1 there. Matching (ITM) has no home in HuggingFace's classes; its tensors keep a project name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from kovilt.errors import KoviltError

# kovilt's module -> HuggingFace's; {} is the block's number. Several on the right: stacked, in that order, on the left.
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
# Parameters that stand alone, with a leading axis of 1 in HuggingFace's files.
_SINGLES = {
    'encoder.image.cls_token': 'vilt.embeddings.cls_token',
    'encoder.image.pos_embed': 'vilt.embeddings.position_embeddings',
}
_FROM_HF = {their: (our, i) for our, theirs in _MODULES.items() for i, their in enumerate(theirs)}
_SINGLES_FROM_HF = {their: our for our, their in _SINGLES.items()}


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A kovilt model's state dict under HuggingFace's names and shapes, copied only where the layout changes."""
    out = {}
    for key, tensor in state.items():
        if key in _SINGLES:
            out[_SINGLES[key]] = tensor[None]
            continue
        module, number, end = _split(key)
        if module not in _MODULES:
            raise KoviltError(f'{key}: a parameter that no ViLT layout has a name for; save this model as a checkpoint')
        if key == 'encoder.image.proj.weight':  # (D, 3*p*p) -> (D, 3, p, p)
            side = round((tensor.shape[1] / 3) ** 0.5)
            tensor = tensor.unflatten(1, (3, side, side))
        theirs = _MODULES[module]
        for their, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            out[f'{their.format(number)}.{end}'] = part.contiguous()
    return out


def from_huggingface(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The inverse of `to_huggingface`. `source` names the file in errors.

    Raises:
        KoviltError: a name is unknown, or one of query, key and value is missing or of another size.
    """
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        if key in _SINGLES_FROM_HF:
            our = _SINGLES_FROM_HF[key]
            out[our] = without_axes(our, tensor)
            continue
        module, number, end = _split(key)
        if module not in _FROM_HF:
            raise KoviltError(f'{source}: {key} is no parameter of a ViLT; is this the file of another model?')
        our, place = _FROM_HF[module]
        name = f'{our.format(number)}.{end}'
        parts.setdefault(name, {})[place] = without_axes(name, tensor)
    for our, found in parts.items():
        expected = len(_MODULES[_split(our)[0]])
        if len(found) != expected:
            raise KoviltError(f'{source}: {expected - len(found)} of query, key and value is missing for {our}')
        if len({part.shape for part in found.values()}) > 1:
            raise KoviltError(f'{source}: query, key and value for {our} are of different sizes; is the file whole?')
        out[our] = found[0] if expected == 1 else torch.cat([found[i] for i in range(expected)])
    return out


def without_axes(our: str, tensor: Tensor) -> Tensor:
    """A tensor of ViT's layouts in the shape of kovilt's parameter `our`: no leading axis of 1, no convolution."""
    if our in _SINGLES:
        return tensor.squeeze(0)
    if our == 'encoder.image.proj.weight' and tensor.ndim == 4:  # (D, 3, p, p) -> (D, 3*p*p)
        return tensor.flatten(1)
    return tensor


def _split(key: str) -> tuple[str, str, str]:
    """(module with {} for the block's number, that number or '', 'weight' or 'bias')."""
    module, _, end = key.rpartition('.')
    number = re.search(r'(?<=blocks\.)\d+|(?<=encoder\.layer\.)\d+', module)
    if number is None:
        return module, '', end
    return f'{module[: number.start()]}{{}}{module[number.end() :]}', number.group(), end
