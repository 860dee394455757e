"""Small public models, made by transformers, that tests of importing weights share; nothing is downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_models import ANSWERS, MAX_TEXT_LEN, WORDS, tiny_tokenizer
from transformers import BertTokenizer, PreTrainedModel, ViltConfig

SIZES = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    image_size=32,
    patch_size=8,
    initializer_range=0.2,
)
VILT = ViltConfig(
    **SIZES,
    vocab_size=len(WORDS) + 5,
    max_position_embeddings=MAX_TEXT_LEN,
    layer_norm_eps=1e-6,
    id2label=dict(enumerate(ANSWERS)),
    tie_word_embeddings=True,
)
SPECIAL_TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
OTHER_TOKENS = [*SPECIAL_TOKENS, *'책 ##은 소파 화분 ##도 의자 있어요 무슨 색 ##이에요 사과'.split()]
HF_WORDS = 'vilt.embeddings.text_embeddings.word_embeddings.weight'


def randomised(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """The model with random weights, also where it starts from zeros and ones."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


def saved(model: PreTrainedModel, out: Path) -> Path:
    """Save a model with the tiny tokenizer; returns the folder."""
    model.save_pretrained(out)
    tiny_tokenizer().save_pretrained(out)
    return out


@dataclass
class SavedModel:
    model: PreTrainedModel
    folder: Path


def edited(source: SavedModel, out: Path, edit: Callable[[dict[str, torch.Tensor]], Any], **changes: Any) -> Path:
    """A copy of a model's folder with the tensors changed by `edit`, and with other values in config.json."""
    tensors = load_file(source.folder / 'model.safetensors')
    edit(tensors)
    out.mkdir()
    tiny_tokenizer().save_pretrained(out)
    config = json.loads((source.folder / 'config.json').read_text(encoding='utf-8')) | changes
    (out / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    save_file(tensors, out / 'model.safetensors')
    return out


def original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """HuggingFace's ViLT under the names of the original code: untied, with queries, keys and values in one matrix."""
    names = {
        'vilt.embeddings.text_embeddings.': 'text_embeddings.',
        'vilt.embeddings.token_type_embeddings.': 'token_type_embeddings.',
        'vilt.embeddings.cls_token': 'transformer.cls_token',
        'vilt.embeddings.position_embeddings': 'transformer.pos_embed',
        'vilt.embeddings.patch_embeddings.projection.': 'transformer.patch_embed.proj.',
        'vilt.layernorm.': 'transformer.norm.',
        'vilt.pooler.': 'pooler.',
        'classifier.': 'vqa_classifier.',
        'mlm_score.decoder.bias': 'mlm_score.bias',
    }
    inside = {
        'layernorm_before': 'norm1',
        'layernorm_after': 'norm2',
        'attention.output.dense': 'attn.proj',
        'intermediate.dense': 'mlp.fc1',
        'output.dense': 'mlp.fc2',
    }
    out = {}
    for key, tensor in state.items():
        block = re.fullmatch(r'vilt\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)', key)
        if block and block[2] in inside:
            out[f'transformer.blocks.{block[1]}.{inside[block[2]]}.{block[3]}'] = tensor
        elif block:
            parts = [state[key.replace(block[2], f'attention.attention.{part}')] for part in ('query', 'key', 'value')]
            out[f'transformer.blocks.{block[1]}.attn.qkv.{block[3]}'] = torch.cat(parts)
        else:
            start = next((start for start in names if key.startswith(start)), '')
            out[names.get(start, '') + key[len(start) :]] = tensor
    return out


def timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """HuggingFace's ViT under timm's names."""
    bare = {f'vilt.{key.removeprefix("vit.")}': tensor for key, tensor in state.items() if 'classifier' not in key}
    renamed = original(bare)
    return {key.removeprefix('transformer.'): tensor for key, tensor in renamed.items()} | {'head.bias': torch.ones(2)}


def tokenizer_of(tokens: list[str], out: Path) -> str:
    """Save a WordPiece tokenizer with these tokens; returns its folder."""
    vocabulary = {token: i for i, token in enumerate(tokens)}
    BertTokenizer(vocab=vocabulary, do_lower_case=False, strip_accents=False).save_pretrained(out)
    return str(out)
