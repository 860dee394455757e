"""A model folder whose model also reads the words of other texts: its tokenizer extended, its embeddings with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.datasets.tokenizer_training import extend_tokenizer
from kovilt.datasets.transforms.text import load_tokenizer
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
def extend_model(folder: str | Path, texts: Iterable[str], out: str | Path, *, overwrite: bool = False) -> Extension:
    """Write the model folder `out`: the model of `folder` with a tokenizer that knows all characters of the texts.

    The word embedding of a new token, and its row of a masked-word decoder, is the mean of those of the old tokens in
    its text; where there is none, the mean of all tokens.

    Args:
        texts: normalized texts.

    Raises:
        KoviltError: as `load_model_folder`, `extend_tokenizer` and `save_model_folder`; a model of another kind than
            a ViLT for pre-training.
    """
    texts = list(texts)
    trained = load_model_folder(folder, kind='ViLTForPreTraining')
    old = load_tokenizer(folder)
    new = extend_tokenizer(old, texts)
    info, size = trained.info, len(old)
    model_cfg = dict(info['model'], encoder=dict(info['model']['encoder'], vocab_size=len(new)))
    model = build_model(model_cfg)
    vocabulary = old.get_vocab()
    parts = [_old_tokens(vocabulary, token) for token in new.convert_ids_to_tokens(list(range(size, len(new))))]
    state = trained.model.state_dict()
    for name, value in model.state_dict().items():
        if value.shape != state[name].shape:  # a table with a row for each token
            state[name] = torch.cat([state[name], _mean_rows(state[name], parts)])
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
    return Extension(len(new) - size, *shares)


def _old_tokens(vocabulary: Mapping[str, int], token: str) -> list[int]:
    """The ids of the longest tokens that follow each other in the text of a new token; unknown characters left out."""
    text, at, ids = token.removeprefix('##'), 0, []
    while at < len(text):
        prefix = '##' if at or token.startswith('##') else ''
        end = next((end for end in range(len(text), at, -1) if prefix + text[at:end] in vocabulary), None)
        if end is not None:
            ids.append(vocabulary[prefix + text[at:end]])
        at = end or at + 1
    return ids


def _mean_rows(table: Tensor, parts: list[list[int]]) -> Tensor:
    """A row for each new token, (N, ...) of a table (V, ...)."""
    rows = [table[ids].mean(dim=0) if ids else table.mean(dim=0) for ids in parts]
    return torch.stack(rows) if rows else table[:0]
