"""Load public weights into METER's image encoder, a backbone of mmpretrain, without running code from their file.

| layout | known by |
|---|---|
| HuggingFace CLIP | `vision_model.embeddings.class_embedding`, in a bare `CLIPVisionModel` without `vision_model.` |
| OpenAI CLIP | `visual.conv1.weight` (open_clip; OpenAI's own files are TorchScript programs and are refused) |
| HuggingFace ViT | `vit.embeddings.patch_embeddings.*`, in a bare `ViTModel` without `vit.` |
| timm ViT | `patch_embed.proj.*` |
| mmpretrain | any backbone's own names, with or without `backbone.` |

MMEngine's `init_cfg=dict(type='Pretrained', ...)` unpickles a file and so runs what the file says; configs that have
one are refused (kovilt/engine/config_check.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.errors import KoviltError, first_line
from kovilt.formats.checkpoint import MIN_ENCODER_COVERAGE
from kovilt.formats.report import ImportReport, shorten_list
from kovilt.formats.weight_files import WeightFiles, read_weight_files

_CLIP, _OPENAI, _VIT, _TIMM, _MMPRETRAIN = (
    'HuggingFace CLIP',
    'OpenAI CLIP',
    'HuggingFace ViT',
    'timm ViT',
    'mmpretrain',
)
_LAYOUTS = {
    _CLIP: r'(vision_model\.)?embeddings\.class_embedding$',
    _OPENAI: r'visual\.conv1\.weight$',
    _VIT: r'(vit\.)?embeddings\.patch_embeddings\.',
    _TIMM: r'patch_embed\.proj\.',
    _MMPRETRAIN: r'(backbone\.)?(patch_embed\.projection|layers|stages)\.',
}
_PREFIXES = {_CLIP: 'vision_model.', _OPENAI: 'visual.', _VIT: 'vit.', _TIMM: '', _MMPRETRAIN: 'backbone.'}
# Parameters of mmpretrain's VisionTransformer -> theirs; {} is the block's number. Several: concatenated in that order.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    _CLIP: {
        'cls_token': ('embeddings.class_embedding',),
        'pos_embed': ('embeddings.position_embedding.weight',),
        'patch_embed.projection': ('embeddings.patch_embedding',),
        'pre_norm': ('pre_layrnorm',),  # HuggingFace spells it so
        'layers.{}.ln1': ('encoder.layers.{}.layer_norm1',),
        'layers.{}.attn.qkv': tuple(f'encoder.layers.{{}}.self_attn.{part}_proj' for part in 'qkv'),
        'layers.{}.attn.proj': ('encoder.layers.{}.self_attn.out_proj',),
        'layers.{}.ln2': ('encoder.layers.{}.layer_norm2',),
        'layers.{}.ffn.layers.0.0': ('encoder.layers.{}.mlp.fc1',),
        'layers.{}.ffn.layers.1': ('encoder.layers.{}.mlp.fc2',),
        'ln1': ('post_layernorm',),
    },
    _OPENAI: {
        'cls_token': ('class_embedding',),
        'pos_embed': ('positional_embedding',),
        'patch_embed.projection': ('conv1',),
        'pre_norm': ('ln_pre',),
        'layers.{}.ln1': ('transformer.resblocks.{}.ln_1',),
        'layers.{}.attn.qkv': ('transformer.resblocks.{}.attn.in_proj',),
        'layers.{}.attn.proj': ('transformer.resblocks.{}.attn.out_proj',),
        'layers.{}.ln2': ('transformer.resblocks.{}.ln_2',),
        'layers.{}.ffn.layers.0.0': ('transformer.resblocks.{}.mlp.c_fc',),
        'layers.{}.ffn.layers.1': ('transformer.resblocks.{}.mlp.c_proj',),
        'ln1': ('ln_post',),
    },
    _VIT: {
        'cls_token': ('embeddings.cls_token',),
        'pos_embed': ('embeddings.position_embeddings',),
        'patch_embed.projection': ('embeddings.patch_embeddings.projection',),
        'layers.{}.ln1': ('encoder.layer.{}.layernorm_before',),
        'layers.{}.attn.qkv': tuple(
            f'encoder.layer.{{}}.attention.attention.{part}' for part in ('query', 'key', 'value')
        ),
        'layers.{}.attn.proj': ('encoder.layer.{}.attention.output.dense',),
        'layers.{}.ln2': ('encoder.layer.{}.layernorm_after',),
        'layers.{}.ffn.layers.0.0': ('encoder.layer.{}.intermediate.dense',),
        'layers.{}.ffn.layers.1': ('encoder.layer.{}.output.dense',),
        'ln1': ('layernorm',),
    },
    _TIMM: {
        'cls_token': ('cls_token',),
        'pos_embed': ('pos_embed',),
        'patch_embed.projection': ('patch_embed.proj',),
        'pre_norm': ('norm_pre',),
        'layers.{}.ln1': ('blocks.{}.norm1',),
        'layers.{}.attn.qkv': ('blocks.{}.attn.qkv',),
        'layers.{}.attn.proj': ('blocks.{}.attn.proj',),
        'layers.{}.ln2': ('blocks.{}.norm2',),
        'layers.{}.ffn.layers.0.0': ('blocks.{}.mlp.fc1',),
        'layers.{}.ffn.layers.1': ('blocks.{}.mlp.fc2',),
        'ln1': ('norm',),
    },
}
# Tensors that no image encoder uses, by their names in the file, with the reason that the report gives.
_DROPPED = {
    _CLIP: {
        r'text_model\.|text_projection\.': 'text encoder',
        r'visual_projection\.|logit_scale': 'contrastive head',
        r'(vision_model\.)?embeddings\.position_ids': 'position numbers, no weight',
    },
    _OPENAI: {r'(?!visual\.)': 'text encoder', r'visual\.proj$': 'contrastive head'},
    _VIT: {
        r'classifier\.': 'ImageNet head',
        r'(vit\.)?pooler\.': 'pooler of the image CLS',
        r'(vit\.)?embeddings\.mask_token': 'masked-patch token',
    },
    _TIMM: {r'head\.|fc_norm\.': 'ImageNet head', r'pre_logits\.': 'pooler of the image CLS'},
    _MMPRETRAIN: {
        r'(head|neck|data_preprocessor)\.': 'head of its training',
        r'.*relative_position_index$': 'position numbers, no weight',
    },
}
_ACTIVATIONS = {'quick_gelu': 'mmpretrain.QuickGELU', 'gelu': 'GELU'}  # HuggingFace's name -> mmpretrain's


def load_image_encoder(encoder: nn.Module, source: str | Path) -> ImportReport:
    """Load public weights into a backbone of mmpretrain; returns what became of each tensor.

    Blocks of the source beyond those of the encoder are dropped, as METER drops CLIP's last one. Position embeddings
    are resized to the encoder's image size.

    Args:
        encoder: a VisionTransformer, or any backbone if the file has mmpretrain's own layout.
        source: a file of weights (safetensors, or a pickle of tensors and plain values), a HuggingFace folder with
            one, or the name of such a model on the hub.

    Raises:
        KoviltError: not readable, not one of the layouts above, another architecture than the encoder's, or less than
            95 % of the encoder's parameters are there.
    """
    name = str(source)
    files = read_weight_files(_find_or_download(name))
    layout = _find_layout(files.state, name)
    expected = dict(encoder.named_parameters())
    if layout != _MMPRETRAIN and not _is_vit(encoder):
        raise KoviltError(
            f'image encoder {name}: a {layout}, but model.encoder.image_encoder is a {type(encoder).__name__}; take a '
            "VisionTransformer, or a file of that backbone in mmpretrain's layout"
        )
    state, dropped = _rename(files.state, layout, len(getattr(encoder, 'layers', ())), name)
    _check_architecture(encoder, state, files, name)
    resized, loaded = [], {}
    for key, tensor in state.items():
        if key not in expected:
            continue
        if tensor.shape != expected[key].shape:
            fitted = resize_positions(tensor, expected[key]) if key == 'pos_embed' else tensor
            if fitted.shape != expected[key].shape:  # Swin's position tables depend on window_size, not on image size
                raise KoviltError(
                    f'image encoder {name}: {key} is {tuple(tensor.shape)} there, {tuple(expected[key].shape)} here; '
                    'give model.encoder.image_encoder the sizes of the file'
                )
            resized.append(f'{key} {tuple(tensor.shape)} to {tuple(expected[key].shape)}')
            tensor = fitted
        loaded[key] = tensor
    missing = [key for key in expected if key not in loaded]
    total = sum(parameter.numel() for parameter in expected.values())
    coverage = 1 - sum(expected[key].numel() for key in missing) / total
    if coverage < MIN_ENCODER_COVERAGE:
        raise KoviltError(
            f'image encoder {name}: gives {coverage:.1%} of the encoder, less than {MIN_ENCODER_COVERAGE:.0%}; '
            f'missing: {shorten_list(missing)}'
        )
    encoder.load_state_dict(loaded, strict=False)
    details = {
        'image encoder': f'{files.path.name} ({layout}, sha256 {files.sha256})',
        'kept': f'{len(loaded) - len(resized)} tensors',
        'resized': '; '.join(resized),
        'new': ', '.join(missing),
        'dropped': '; '.join(f'{reason} ({count} tensors)' for reason, count in dropped.items()),
        'notes': '; '.join([*files.notes, *_unchecked_settings(files, layout)]),
        'coverage': f'{100 * coverage:.1f} % of {total:,} parameters',
    }
    return ImportReport(coverage, {heading: text for heading, text in details.items() if text})


def resize_positions(table: Tensor, like: Tensor) -> Tensor:
    """Resize position embeddings (1, 1 + g*g, D) of a CLS and a square grid to the grid of `like`.

    Bicubic, as METER and mmpretrain do. A table that is no such grid, or has another D, is returned as it is.
    """
    if table.shape[::2] != like.shape[::2] or table.ndim != 3:
        return table
    old, new = (math.isqrt(positions.shape[1] - 1) for positions in (table, like))
    if old**2 + 1 != table.shape[1] or new**2 + 1 != like.shape[1]:
        return table
    grid = table[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2).float()  # (1, D, g, g)
    grid = F.interpolate(grid, size=(new, new), mode='bicubic', align_corners=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


def _find_or_download(name: str) -> Path:
    """The file or folder `name`, or the local copy of the hub's model of that name."""
    path = Path(name).expanduser()
    if path.exists() or path.suffix or not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
        return path
    from huggingface_hub import snapshot_download

    try:
        settings = ['config.json', 'preprocessor_config.json']
        folder = Path(snapshot_download(name, allow_patterns=[*settings, 'model.safetensors']))
        if not (folder / 'model.safetensors').is_file():
            folder = Path(snapshot_download(name, allow_patterns=[*settings, 'pytorch_model.bin']))
    except (OSError, ValueError) as error:
        raise KoviltError(
            f'image encoder {name}: neither a file or folder nor to be had from the hub ({first_line(error)}); give '
            'model.encoder.image_encoder_weights the folder of a CLIP ViT, or None for random weights'
        ) from error
    return folder


def _find_layout(state: Mapping[str, Tensor], name: str) -> str:
    for layout, pattern in _LAYOUTS.items():
        if any(re.match(pattern, key) for key in state):
            return layout
    raise KoviltError(
        f'image encoder {name}: neither a CLIP, a ViT nor a backbone of mmpretrain; it holds '
        f'{", ".join(list(state)[:3]) or "nothing"}'
    )


def _is_vit(encoder: nn.Module) -> bool:
    from mmpretrain.models import VisionTransformer

    return isinstance(encoder, VisionTransformer)


def _rename(
    state: Mapping[str, Tensor], layout: str, num_blocks: int, name: str
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The tensors under mmpretrain's names, and how many were dropped for each reason."""
    names = {theirs: (ours, i) for ours, parts in _NAMES.get(layout, {}).items() for i, theirs in enumerate(parts)}
    parts: dict[str, dict[int, Tensor]] = {}
    dropped: dict[str, int] = {}
    for key, tensor in state.items():
        reason = next((reason for pattern, reason in _DROPPED[layout].items() if re.match(pattern, key)), None)
        ours, part = key.removeprefix(_PREFIXES[layout]), 0
        if reason is None and layout != _MMPRETRAIN:
            ours, part = _mmpretrain_name(ours, names, f'image encoder {name}: {key}')
        block = re.match(r'layers\.(\d+)\.', ours)
        if reason is None and block and int(block[1]) >= num_blocks:
            reason = f'blocks from number {num_blocks + 1} on'
        if reason is None:
            parts.setdefault(ours, {})[part] = tensor
        else:
            dropped[reason] = dropped.get(reason, 0) + 1
    renamed = {ours: torch.cat([tensors[i] for i in sorted(tensors)]) for ours, tensors in parts.items()}
    for ours in ('cls_token', 'pos_embed'):
        while ours in renamed and renamed[ours].ndim < 3:
            renamed[ours] = renamed[ours][None]
    return renamed, dropped


def _mmpretrain_name(key: str, names: Mapping[str, tuple[str, int]], where: str) -> tuple[str, int]:
    """mmpretrain's name for a key, and which part of a concatenated parameter the tensor is."""
    if key in names:  # a parameter without a module, such as class_embedding
        return names[key]
    module, _, suffix = key.replace('.in_proj_', '.in_proj.').rpartition('.')
    number = re.search(r'\.(\d+)\.', module)
    template = module.replace(number[0], '.{}.', 1) if number else module
    if template not in names or suffix not in ('weight', 'bias'):
        raise KoviltError(f'{where} is no parameter of a ViT; is this the file of another model?')
    ours, part = names[template]
    return f'{ours.format(number[1]) if number else ours}.{suffix}', part


def _check_architecture(encoder: Any, state: Mapping[str, Tensor], files: WeightFiles, name: str) -> None:
    """KoviltError if the encoder computes something else than the source did, though most tensors would fit."""
    expected = encoder.state_dict()
    here, there = 'pre_norm.weight' in expected, 'pre_norm.weight' in state
    if _is_vit(encoder) and here != there:
        more = '' if there else ", norm_cfg=dict(type='LN', eps=1e-6) and layer_cfgs=dict(act_cfg=dict(type='GELU'))"
        raise KoviltError(
            f'image encoder {name}: it has {"a" if there else "no"} norm before its blocks, as CLIP has; set '
            f'model.encoder.image_encoder.pre_norm={there}{more}'
        )
    unknown = [key for key in state if key not in expected and not key.startswith('ln1.')]
    if unknown:
        raise KoviltError(
            f'image encoder {name}: {", ".join(unknown[:3])} {"has" if len(unknown) == 1 else "have"} no place in this '
            f'{type(encoder).__name__}; is it of another architecture?'
        )
    if not _is_vit(encoder):
        return
    stated = files.config.get('vision_config', files.config)
    activation = _ACTIVATIONS.get(stated.get('hidden_act'))
    ours = type(encoder.layers[0].ffn.layers[0][1]).__name__
    if activation and activation.split('.')[-1] != ours:
        raise KoviltError(
            f'image encoder {name}: its activation is {stated["hidden_act"]}, but here {ours}; set '
            f"model.encoder.image_encoder.layer_cfgs=dict(act_cfg=dict(type='{activation}'))"
        )
    heads = stated.get('num_attention_heads')
    if heads and heads != encoder.arch_settings['num_heads']:
        raise KoviltError(
            f'image encoder {name}: {heads} attention heads there and {encoder.arch_settings["num_heads"]} here; set '
            f'model.encoder.image_encoder.arch.num_heads={heads}'
        )


def _unchecked_settings(files: WeightFiles, layout: str) -> list[str]:
    if layout == _MMPRETRAIN or files.config:
        return []
    return ['no config.json states its activation and heads: compare them with model.encoder.image_encoder']
