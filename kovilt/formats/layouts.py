"""Layouts of public weights: how a file is recognised, which tensors are not used, and what the others are called here.

A table of names maps our name of a module or parameter to theirs; {} is the block's number. Where they have several
tensors for one of ours, they are concatenated in the order of the table. timm's names of a ViT connect the tables:
kovilt's blocks have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kovilt.errors import KoviltError

NameTable = Mapping[str, tuple[str, ...]]

_BLOCK_NUMBER = re.compile(r'(?:^|\.)(?:blocks|layers?|resblocks)\.(\d+)\.')

# timm's names of a ViT -> others'.
HUGGINGFACE_VIT: NameTable = {
    'cls_token': ('embeddings.cls_token',),
    'pos_embed': ('embeddings.position_embeddings',),
    'patch_embed.proj': ('embeddings.patch_embeddings.projection',),
    'blocks.{}.norm1': ('encoder.layer.{}.layernorm_before',),
    'blocks.{}.attn.qkv': tuple(f'encoder.layer.{{}}.attention.attention.{part}' for part in ('query', 'key', 'value')),
    'blocks.{}.attn.proj': ('encoder.layer.{}.attention.output.dense',),
    'blocks.{}.norm2': ('encoder.layer.{}.layernorm_after',),
    'blocks.{}.mlp.fc1': ('encoder.layer.{}.intermediate.dense',),
    'blocks.{}.mlp.fc2': ('encoder.layer.{}.output.dense',),
    'norm': ('layernorm',),
}
HUGGINGFACE_CLIP: NameTable = {
    'cls_token': ('embeddings.class_embedding',),
    'pos_embed': ('embeddings.position_embedding.weight',),
    'patch_embed.proj': ('embeddings.patch_embedding',),
    'norm_pre': ('pre_layrnorm',),  # HuggingFace spells it so
    'blocks.{}.norm1': ('encoder.layers.{}.layer_norm1',),
    'blocks.{}.attn.qkv': tuple(f'encoder.layers.{{}}.self_attn.{part}_proj' for part in 'qkv'),
    'blocks.{}.attn.proj': ('encoder.layers.{}.self_attn.out_proj',),
    'blocks.{}.norm2': ('encoder.layers.{}.layer_norm2',),
    'blocks.{}.mlp.fc1': ('encoder.layers.{}.mlp.fc1',),
    'blocks.{}.mlp.fc2': ('encoder.layers.{}.mlp.fc2',),
    'norm': ('post_layernorm',),
}
OPENAI_CLIP: NameTable = {
    'cls_token': ('class_embedding',),
    'pos_embed': ('positional_embedding',),
    'patch_embed.proj': ('conv1',),
    'norm_pre': ('ln_pre',),
    'blocks.{}.norm1': ('transformer.resblocks.{}.ln_1',),
    'blocks.{}.attn.qkv': ('transformer.resblocks.{}.attn.in_proj',),
    'blocks.{}.attn.proj': ('transformer.resblocks.{}.attn.out_proj',),
    'blocks.{}.norm2': ('transformer.resblocks.{}.ln_2',),
    'blocks.{}.mlp.fc1': ('transformer.resblocks.{}.mlp.c_fc',),
    'blocks.{}.mlp.fc2': ('transformer.resblocks.{}.mlp.c_proj',),
    'norm': ('ln_post',),
}
_TIMM_NAMES: NameTable = {name: (name,) for name in HUGGINGFACE_CLIP}


@dataclass(frozen=True)
class Layout:
    """The names that one project gives to the tensors of a model.

    known_by: pattern; a file in which the start of any name matches has this layout.
    names: table of names without `prefix`.
    prefix: may stand before their names, in files that hold more than the bare model.
    dropped: tensors that are not used, pattern of the start of their names -> the reason that the report gives.
    """

    name: str
    known_by: str
    names: NameTable = field(default_factory=dict)
    prefix: str = ''
    dropped: Mapping[str, str] = field(default_factory=dict)

    def find_dropped(self, state: Iterable[str]) -> dict[str, str]:
        """The names of tensors that are not used, with the reason."""
        reasons = ((key, pattern, reason) for key in state for pattern, reason in self.dropped.items())
        return {key: reason for key, pattern, reason in reasons if re.match(pattern, key)}

    def rename(self, state: Mapping[str, Tensor], *, source: str, model: str) -> dict[str, Tensor]:
        """The tensors under our names. `source` and `model`, such as 'ViT', are named in errors.

        Raises:
            KoviltError: a name is unknown, or one of query, key and value is missing or of another size.
        """
        ours_by_theirs = {theirs: (ours, i) for ours, parts in self.names.items() for i, theirs in enumerate(parts)}
        found: dict[str, list[Tensor | None]] = {}
        for key, tensor in state.items():
            template, number = split_block_number(key.removeprefix(self.prefix))
            # torch's MultiheadAttention, and so OpenAI's CLIP, has parameters in_proj_weight and in_proj_bias.
            module, _, suffix = template.replace('.in_proj_', '.in_proj.').rpartition('.')
            if template in ours_by_theirs:  # a parameter without a module
                ours, part = ours_by_theirs[template]
                name = ours
            elif module in ours_by_theirs and suffix in ('weight', 'bias'):
                ours, part = ours_by_theirs[module]
                name = f'{ours}.{suffix}'
            else:
                raise KoviltError(f'{source}: {key} is no parameter of a {model}; is this the file of another model?')
            found.setdefault(name.format(number), [None] * len(self.names[ours]))[part] = tensor
        return {name: _concatenate(parts, source, name) for name, parts in found.items()}


VIT = Layout(
    'HuggingFace ViT',
    r'(vit\.)?embeddings\.patch_embeddings\.',
    HUGGINGFACE_VIT,
    'vit.',
    {
        r'classifier\.': 'ImageNet head',
        r'(vit\.)?pooler\.': 'pooler of the image CLS',
        r'(vit\.)?embeddings\.mask_token': 'masked-patch token',
    },
)
TIMM_VIT = Layout(
    'timm ViT',
    r'(patch_embed|blocks)\.',
    _TIMM_NAMES,
    dropped={r'head\.': 'ImageNet head', r'pre_logits\.': 'pooler of the image CLS'},
)


def find_layout(state: Mapping[str, Tensor], layouts: Iterable[Layout], *, source: str, models: str) -> Layout:
    """The first layout that the file has; KoviltError that it is none of `models` if it has none of them."""
    for layout in layouts:
        if any(re.match(layout.known_by, key) for key in state):
            return layout
    raise KoviltError(f'{source}: {models}; it holds {", ".join(list(state)[:3]) or "nothing"}')


def split_block_number(key: str) -> tuple[str, str]:
    """The name with {} for the number of its block, and that number, or '' if it belongs to no block."""
    block = _BLOCK_NUMBER.search(key)
    return (f'{key[: block.start(1)]}{{}}{key[block.end(1) :]}', block[1]) if block else (key, '')


def join_names(ours: Mapping[str, str], timm: NameTable) -> NameTable:
    """The table of our names -> theirs, from our names -> timm's and timm's -> theirs."""
    return {name: timm[common] for name, common in ours.items() if common in timm}


def _concatenate(parts: list[Tensor | None], source: str, name: str) -> Tensor:
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise KoviltError(f'{source}: {len(parts) - len(found)} of query, key and value is missing for {name}')
    if len({part.shape for part in found}) > 1:
        raise KoviltError(f'{source}: query, key and value for {name} are of different sizes; is it complete?')
    return torch.cat(found) if len(found) > 1 else found[0]
