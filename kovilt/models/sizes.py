"""Sizes that a model config leaves open (None): filled from what the data says, and compared with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from kovilt.errors import KoviltError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def fill_sizes(model: dict, sizes: Mapping[str, Any], path: str = 'model') -> dict:
    """Replaces each None of `num_answers`, `vocab_size`, `mask_token_id`, `special_token_ids` by what the data says."""
    for key, value in model.items():
        if isinstance(value, dict):
            fill_sizes(value, sizes, f'{path}.{key}')
        elif value is None and key in ('num_answers', 'vocab_size', 'mask_token_id', 'special_token_ids'):
            if sizes.get(key) is None:
                raise KoviltError(
                    f'{path}.{key} is None, "from the data", but neither training data nor checkpoint gives it; '
                    'write the number'
                )
            model[key] = sizes[key]
    return model


def resolve_content_words(model: dict, tokenizer: PreTrainedTokenizerBase | None, path: str = 'model') -> None:
    """Replaces the words of every `content_words` by the ids of their first pieces; without a tokenizer by none.

    Words that the tokenizer does not know are left out, with a warning that names them.
    """
    for key, value in model.items():
        if isinstance(value, dict):
            resolve_content_words(value, tokenizer, f'{path}.{key}')
        elif key == 'content_words' and any(isinstance(word, str) for word in value):
            pieces = {word: tokenizer.encode(word, add_special_tokens=False)[0] for word in value} if tokenizer else {}
            unknown = [word for word, piece in pieces.items() if piece == tokenizer.unk_token_id]
            if unknown:
                print_log(
                    f'{path}.{key}: left out, as the tokenizer does not know them: {", ".join(unknown)}',
                    logger='current',
                    level=logging.WARNING,
                )
            model[key] = sorted(set(pieces.values()) - {pieces[word] for word in unknown})


def check_sizes(model: Mapping, sizes: Mapping[str, Any]) -> None:
    """The numbers that data and model both state must agree before the first step."""
    encoder = model.get('encoder') or {}
    said, size = encoder.get('vocab_size'), sizes.get('vocab_size')
    if said is not None and size is not None and said < size:
        raise KoviltError(
            f'model.encoder.vocab_size is {said}, but the tokenizer has {size} tokens; write None to take its size'
        )
    longest, length = encoder.get('max_text_len'), sizes.get('max_text_len')
    if longest is not None and length is not None and length > longest:
        raise KoviltError(
            f'texts are cut to max_text_len={length} tokens, but model.encoder.max_text_len is {longest}; '
            'give both the same number'
        )
    side, cut = encoder.get('patch_size'), sizes.get('patch_size')
    if side is not None and cut is not None and side != cut:
        raise KoviltError(
            f'Patchify cuts patches of {cut} pixels, but model.encoder.patch_size is {side}; give both the same number'
        )
    said, count = (model.get('vqa_head') or {}).get('num_answers'), sizes.get('num_answers')
    if said is not None and count is not None and said != count:
        raise KoviltError(
            f'model.vqa_head.num_answers is {said}, but the training data has {count} answers; write None to '
            'take its count'
        )
