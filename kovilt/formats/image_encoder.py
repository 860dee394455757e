"""Load public weights into METER's image encoder, a backbone of mmpretrain, without running code from their file.

`_LAYOUTS` are the files that are read: CLIP (HuggingFace's; open_clip's names, since OpenAI's own files are TorchScript
programs and are refused), ViT (HuggingFace's, timm's), and any backbone of mmpretrain under its own names.

MMEngine's `init_cfg=dict(type='Pretrained', ...)` unpickles a file and so runs what the file says; configs that have
one are refused (kovilt/engine/component_check.py).
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kovilt.errors import KoviltError, first_line
from kovilt.formats.checkpoint import MIN_ENCODER_COVERAGE
from kovilt.formats.layouts import (
    HUGGINGFACE_CLIP,
    OPENAI_CLIP,
    TIMM_VIT,
    VIT,
    Layout,
    find_layout,
    join_names,
    split_block_number,
)
from kovilt.formats.report import ImportReport, shorten_list
from kovilt.formats.weight_files import WeightFiles, read_weight_files

_MMPRETRAIN = Layout(
    'mmpretrain',
    r'(backbone\.)?(patch_embed\.projection|layers|stages)\.',
    prefix='backbone.',
    dropped={
        r'(head|neck|data_preprocessor)\.': 'head of its training',
        r'.*relative_position_index$': 'position numbers, no weight',
    },
)
# Names of mmpretrain's VisionTransformer -> timm's.
_TIMM_NAMES = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed.projection': 'patch_embed.proj',
    'pre_norm': 'norm_pre',
    'layers.{}.ln1': 'blocks.{}.norm1',
    'layers.{}.attn.qkv': 'blocks.{}.attn.qkv',
    'layers.{}.attn.proj': 'blocks.{}.attn.proj',
    'layers.{}.ln2': 'blocks.{}.norm2',
    'layers.{}.ffn.layers.0.0': 'blocks.{}.mlp.fc1',
    'layers.{}.ffn.layers.1': 'blocks.{}.mlp.fc2',
    'ln1': 'norm',
}
_LAYOUTS = (
    Layout(
        'HuggingFace CLIP',
        r'(vision_model\.)?embeddings\.class_embedding$',
        join_names(_TIMM_NAMES, HUGGINGFACE_CLIP),
        'vision_model.',
        {
            r'text_model\.|text_projection\.': 'text encoder',
            r'visual_projection\.|logit_scale': 'contrastive head',
            r'(vision_model\.)?embeddings\.position_ids': 'position numbers, no weight',
        },
    ),
    Layout(
        'OpenAI CLIP',
        r'visual\.conv1\.weight$',
        join_names(_TIMM_NAMES, OPENAI_CLIP),
        'visual.',
        {r'(?!visual\.)': 'text encoder', r'visual\.proj$': 'contrastive head'},
    ),
    replace(VIT, names=join_names(_TIMM_NAMES, VIT.names)),
    replace(
        TIMM_VIT,
        names=join_names(_TIMM_NAMES, TIMM_VIT.names),
        dropped={**TIMM_VIT.dropped, r'fc_norm\.': 'ImageNet head'},
    ),
    _MMPRETRAIN,
)
_ACTIVATIONS = {'quick_gelu': 'mmpretrain.QuickGELU', 'gelu': 'GELU'}  # HuggingFace's name -> mmpretrain's


def load_image_encoder(encoder: nn.Module, source: str | Path) -> ImportReport:
    """Load public weights into a backbone of mmpretrain; returns what became of each tensor.

    Blocks of the source beyond those of the encoder are dropped, as METER drops CLIP's last one. Position embeddings
    are resized to the encoder's image size.

    Args:
        encoder: a VisionTransformer, or any backbone if the file has mmpretrain's own layout.
        source: what `read_weight_files` takes, or the name of such a model on the hub.

    Raises:
        KoviltError: not readable, no known layout, another architecture than the encoder's, or less than 95 % of the
            encoder's parameters are there.
    """
    name, where = str(source), f'image encoder {source}'
    files = read_weight_files(_find_or_download(name))
    layout = find_layout(
        files.state, _LAYOUTS, source=where, models='neither a CLIP, a ViT nor a backbone of mmpretrain'
    )
    if layout is not _MMPRETRAIN and not _is_vit(encoder):
        raise KoviltError(
            f'{where}: a {layout.name}, but model.encoder.image_encoder is a {type(encoder).__name__}; take a '
            "VisionTransformer, or a file of that backbone in mmpretrain's layout"
        )
    dropped = _late_blocks(encoder, files.state) | layout.find_dropped(files.state)
    used = {key: tensor for key, tensor in files.state.items() if key not in dropped}
    state = _rename(used, layout, where)
    _check_architecture(encoder, state, files, where)
    expected, resized = dict(encoder.named_parameters()), []
    loaded = {key: tensor for key, tensor in state.items() if key in expected}
    for key, tensor in loaded.items():
        like = expected[key]
        if tensor.shape == like.shape:
            continue
        if key == 'pos_embed':
            loaded[key] = resize_positions(tensor, like)
        if loaded[key].shape != like.shape:  # Swin's position tables depend on window_size, not on image size
            raise KoviltError(
                f'{where}: {key} is {tuple(tensor.shape)} there, {tuple(like.shape)} here; give '
                'model.encoder.image_encoder the sizes of the file'
            )
        resized.append(f'{key} {tuple(tensor.shape)} to {tuple(like.shape)}')
    missing = [key for key in expected if key not in loaded]
    total = sum(parameter.numel() for parameter in expected.values())
    coverage = 1 - sum(expected[key].numel() for key in missing) / total
    if coverage < MIN_ENCODER_COVERAGE:
        raise KoviltError(
            f'{where}: gives {coverage:.1%} of the encoder, less than {MIN_ENCODER_COVERAGE:.0%}; '
            f'missing: {shorten_list(missing)}'
        )
    encoder.load_state_dict(loaded, strict=False)
    notes = list(files.notes)
    if layout is not _MMPRETRAIN and not files.config:
        notes.append('no config.json states its activation and heads: compare them with model.encoder.image_encoder')
    details = {
        'image encoder': f'{files.path.name} ({layout.name}, sha256 {files.sha256})',
        'kept': f'{len(loaded) - len(resized)} tensors',
        'resized': '; '.join(resized),
        'new': ', '.join(missing),
        'dropped': '; '.join(f'{reason} ({count} tensors)' for reason, count in Counter(dropped.values()).items()),
        'notes': '; '.join(notes),
        'coverage': f'{100 * coverage:.1f} % of {total:,} parameters',
    }
    return ImportReport(coverage, {heading: text for heading, text in details.items() if text})


def resize_positions(table: Tensor, like: Tensor) -> Tensor:
    """Resize position embeddings (1, 1 + g*g, D) of a CLS and a square grid to the grid of `like`.

    Bicubic, as METER does. A table that is no such grid, or has another D, is returned as it is.
    """
    from mmpretrain.models.utils import resize_pos_embed

    if table.shape[::2] != like.shape[::2] or table.ndim != 3:
        return table
    old, new = (math.isqrt(positions.shape[1] - 1) for positions in (table, like))
    if old**2 + 1 != table.shape[1] or new**2 + 1 != like.shape[1]:
        return table
    return resize_pos_embed(table, (old, old), (new, new))


def _find_or_download(name: str) -> Path:
    """The file or folder `name`, or the local copy of the hub's model of that name."""
    path = Path(os.path.expanduser(name))
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


def _is_vit(encoder: nn.Module) -> bool:
    from mmpretrain.models import VisionTransformer

    return isinstance(encoder, VisionTransformer)


def _late_blocks(encoder: Any, names: Iterable[str]) -> dict[str, str]:
    """The names of tensors that belong to blocks beyond those of a ViT, with the reason why they are dropped."""
    if not _is_vit(encoder):
        return {}
    num_blocks = len(encoder.layers)
    late = (key for key in names if int(split_block_number(key)[1] or 0) >= num_blocks)
    return dict.fromkeys(late, f'blocks from number {num_blocks + 1} on')


def _rename(state: Mapping[str, Tensor], layout: Layout, where: str) -> dict[str, Tensor]:
    """The tensors under mmpretrain's names and in its shapes."""
    if layout is _MMPRETRAIN:
        return {key.removeprefix(layout.prefix): tensor for key, tensor in state.items()}
    renamed = layout.rename(state, source=where, model='ViT')
    for name in renamed.keys() & {'cls_token', 'pos_embed'}:
        renamed[name] = renamed[name].reshape(1, -1, renamed[name].shape[-1])  # CLIP has (D,) and (1 + P, D)
    return renamed


def _check_architecture(encoder: Any, state: Mapping[str, Tensor], files: WeightFiles, where: str) -> None:
    """KoviltError if the encoder computes something else than the source did, though most tensors would fit."""
    expected = encoder.state_dict()
    here, there = 'pre_norm.weight' in expected, 'pre_norm.weight' in state
    if _is_vit(encoder) and here != there:
        more = '' if there else ", norm_cfg=dict(type='LN', eps=1e-6) and layer_cfgs=dict(act_cfg=dict(type='GELU'))"
        raise KoviltError(
            f'{where}: it has {"a" if there else "no"} norm before its blocks, as CLIP has; set '
            f'model.encoder.image_encoder.pre_norm={there}{more}'
        )
    unknown = [key for key in state if key not in expected and not key.startswith('ln1.')]
    if unknown:
        raise KoviltError(
            f'{where}: {", ".join(unknown[:3])} {"has" if len(unknown) == 1 else "have"} no place in this '
            f'{type(encoder).__name__}; is it of another architecture?'
        )
    stated = files.config.get('vision_config', files.config) if _is_vit(encoder) else {}
    activation = _ACTIVATIONS.get(str(stated.get('hidden_act')))
    if activation and activation.split('.')[-1] != (ours := type(encoder.layers[0].ffn.layers[0][1]).__name__):
        raise KoviltError(
            f'{where}: its activation is {stated["hidden_act"]}, but here {ours}; set '
            f"model.encoder.image_encoder.layer_cfgs=dict(act_cfg=dict(type='{activation}'))"
        )
    heads = stated.get('num_attention_heads')
    if heads and heads != encoder.arch_settings['num_heads']:
        raise KoviltError(
            f'{where}: {heads} attention heads there and {encoder.arch_settings["num_heads"]} here; set '
            f'model.encoder.image_encoder.arch.num_heads={heads}'
        )
