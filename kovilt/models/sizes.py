"""From a model config to a model: sizes that the data decides, checks against the data, the answer vocabulary.

The one path of what the data states to the model: the caller reads `data_sizes` (vocabulary size, number of answers,
...), the tokenizer and the answers off its data, checkpoint or model folder; `complete_model_config` writes the sizes
into the config; `build_model` builds it and hands it the answers.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from mmengine.model import BaseModel

from kovilt.errors import KoviltError
from kovilt.models.vqa import AnsweringModel
from kovilt.registry import MODELS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_DATA = ('num_answers', 'vocab_size', 'mask_token_id', 'special_token_ids')  # config keys that may be None


def complete_model_config(
    model_cfg: Mapping[str, Any], *, data_sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, Any]:
    """A copy of a model config that `build_model` can build: with the sizes of the data, and token ids for words.

    Args:
        model_cfg: `model` of a config. None as a value of a key of `FROM_DATA` means "from the data".
        data_sizes: the values by key, as `read_data_sizes` of kovilt.engine reads them off a dataset.
        tokenizer: turns the words of every `content_words` into token ids; None, as for a model that is not trained,
            leaves the lists empty.

    Raises:
        KoviltError: a size is None and `data_sizes` does not give it, or `check_sizes` finds that the two disagree.
    """
    completed = copy.deepcopy(dict(model_cfg))
    _fill(completed, data_sizes, tokenizer, 'model')
    check_sizes(completed, data_sizes)
    return completed


def build_model(model_cfg: Mapping[str, Any], *, answers: Sequence[str] | None = None) -> BaseModel:
    """Build a model from its completed config and hand it the answer vocabulary.

    Args:
        model_cfg: what `complete_model_config` returned, or another config without open sizes.
        answers: the answers in label order. Models that answer nothing ignore them.

    Raises:
        KeyError, TypeError, ValueError: of the registry and the constructors; ValueError also for answers that do not
            fit the answer head.
    """
    model = MODELS.build(copy.deepcopy(dict(model_cfg)))
    if answers is not None and isinstance(model, AnsweringModel):
        model.set_answers(answers)
    return model


def check_sizes(model_cfg: Mapping[str, Any], data_sizes: Mapping[str, Any]) -> None:
    """Compare the numbers that both the model config and the data state, before the first step.

    Raises:
        KoviltError: the texts, patches or answers of the data do not fit the model.
    """
    encoder, head = model_cfg.get('encoder') or {}, model_cfg.get('vqa_head') or {}

    def both(part: Mapping[str, Any], key: str) -> tuple[int, int] | None:
        ours, theirs = part.get(key), data_sizes.get(key)
        return None if ours is None or theirs is None else (ours, theirs)

    sizes = both(encoder, 'vocab_size')
    if sizes and sizes[0] < sizes[1]:
        raise KoviltError(
            f'model.encoder.vocab_size is {sizes[0]}, but the tokenizer has {sizes[1]} tokens; write None to take its '
            'size'
        )
    sizes = both(encoder, 'max_text_len')
    if sizes and sizes[0] < sizes[1]:
        raise KoviltError(
            f'texts are cut to max_text_len={sizes[1]} tokens, but model.encoder.max_text_len is {sizes[0]}; '
            'give both the same number'
        )
    sizes = both(encoder, 'patch_size')
    if sizes and sizes[0] != sizes[1]:
        raise KoviltError(
            f'Patchify cuts patches of {sizes[1]} pixels, but model.encoder.patch_size is {sizes[0]}; give both the '
            'same number'
        )
    sizes = both(head, 'num_answers')
    if sizes and sizes[0] != sizes[1]:
        raise KoviltError(
            f'model.vqa_head.num_answers is {sizes[0]}, but the training data has {sizes[1]} answers; write None to '
            'take its count'
        )


def _fill(part: dict[str, Any], sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None, path: str) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _fill(value, sizes, tokenizer, f'{path}.{key}')
        elif value is None and key in FROM_DATA:
            if sizes.get(key) is None:
                raise KoviltError(
                    f'{path}.{key} is None, "from the data", but neither training data nor checkpoint gives it; '
                    'write the number'
                )
            part[key] = sizes[key]
        elif key == 'content_words' and any(isinstance(word, str) for word in value):
            part[key] = _first_tokens(value, tokenizer, f'{path}.{key}') if tokenizer else []


def _first_tokens(words: Sequence[str], tokenizer: PreTrainedTokenizerBase, path: str) -> list[int]:
    """The ids of the first token of each word. Out-of-vocabulary words are left out, with a warning that names them."""
    first = {word: tokenizer.encode(word, add_special_tokens=False)[0] for word in words}
    unknown = [word for word, token in first.items() if token == tokenizer.unk_token_id]
    if unknown:
        print_log(
            f'{path}: left out, as they are not in the vocabulary of the tokenizer: {", ".join(unknown)}',
            logger='current',
            level=logging.WARNING,
        )
    return sorted({token for word, token in first.items() if word not in unknown})
