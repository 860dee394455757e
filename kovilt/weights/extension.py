"""A model folder whose model also reads the words of other texts: its tokenizer extended, its embeddings with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kovilt.datasets.tokenizer_check import SPECIAL_TOKENS, count_tokens
from kovilt.datasets.tokenizer_training import extend_tokenizer
from kovilt.datasets.transforms.text import load_tokenizer, tokenizer_sizes
from kovilt.formats.public_weights import TOKEN_TABLES
from kovilt.models.sizes import build_model
from kovilt.weights.folder import load_model_folder, save_model_folder


class Extension(NamedTuple):
    """What `extend_model` did.

    unknown_before, unknown_after: share (0 to 1) of unknown tokens among those of the texts.
    """

    new_tokens: int
    unknown_before: float
    unknown_after: float


@torch.no_grad()
def extend_model(
    folder: str | Path, texts: Iterable[str], out: str | Path, *, tokenizer: str | None = None, overwrite: bool = False
) -> Extension:
    """Write the model folder `out`: the model of `folder` with a tokenizer that knows all characters of the texts.

    A token that the old tokenizer has keeps its word embedding and its row of a masked-word decoder. Those of another
    are the mean of those of the old tokens in its text; where there is none, the mean of all tokens.

    Args:
        texts: normalized texts.
        tokenizer: the new one, as `load_tokenizer` takes it; None = the old one, extended by tokens of the texts.

    Raises:
        KoviltError: as `load_model_folder`, `load_tokenizer`, `extend_tokenizer` and `save_model_folder`; a model of
            another kind than a ViLT for pre-training.
    """
    texts = list(texts)
    trained = load_model_folder(folder, kind='ViLTForPreTraining')
    old = load_tokenizer(folder)
    new = extend_tokenizer(old, texts) if tokenizer is None else load_tokenizer(tokenizer)
    info, sizes = trained.info, tokenizer_sizes(new)
    special = {key: sizes[key] for key in ('mask_token_id', 'special_token_ids')}
    model_cfg = dict(
        info['model'],
        encoder=info['model']['encoder'] | {'vocab_size': sizes['vocab_size']},
        mlm_head=info['model']['mlm_head'] | special,
    )
    model = build_model(model_cfg)
    vocabulary = old.get_vocab()
    parts = [_old_tokens(vocabulary, token) for token in new.convert_ids_to_tokens(list(range(len(new))))]
    for role in SPECIAL_TOKENS:  # whatever their texts are
        parts[getattr(new, f'{role}_id')] = [getattr(old, f'{role}_id')]
    state = trained.model.state_dict()
    for name in TOKEN_TABLES:
        state[name] = _mean_rows(state[name], parts)
    model.load_state_dict(state)
    save_model_folder(
        model,
        new,
        out,
        model_cfg=model_cfg,
        image_pipeline=info['image_pipeline'],
        max_text_len=info['max_text_len'],
        training=info['training'],
        overwrite=overwrite,
    )
    shares = [count_tokens(tokenizer, texts).unknown_share for tokenizer in (old, new)]
    return Extension(len(new.get_vocab().keys() - vocabulary.keys()), *shares)


def _old_tokens(vocabulary: Mapping[str, int], token: str) -> list[int]:
    """The id of a token that was there before; else the ids of the longest tokens that follow each other in its text.

    Characters that no old token has are left out.
    """
    if token in vocabulary:
        return [vocabulary[token]]
    text, at, ids = token.removeprefix('##'), 0, list[int]()
    while at < len(text):
        prefix = '##' if at or token.startswith('##') else ''
        end = next((end for end in range(len(text), at, -1) if prefix + text[at:end] in vocabulary), None)
        if end is not None:
            ids.append(vocabulary[prefix + text[at:end]])
        at = end or at + 1
    return ids


def _mean_rows(table: Tensor, parts: list[list[int]]) -> Tensor:
    """A row for each new token, (N, ...) of a table (V, ...)."""
    mean = table.mean(dim=0)
    return torch.stack([table[ids].mean(dim=0) if ids else mean for ids in parts])
