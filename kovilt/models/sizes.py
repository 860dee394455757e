"""From a model config to a model: sizes that the data decides, checks against the data, the answer vocabulary.

The caller takes the sizes (vocabulary size, number of answers, ...), the tokenizer and the answers from a dataset, a
checkpoint or a model folder; `complete_model_config` writes the sizes into the config, then `build_model` builds it.
"""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from mmengine.model import BaseModel

from kovilt.errors import KoviltError, first_line
from kovilt.models.vqa import ViLTForVQA
from kovilt.registry import MODELS, registered_names_only

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_DATA = ('num_answers', 'vocab_size', 'mask_token_id', 'special_token_ids')  # config keys that may be None


def complete_model_config(
    model_cfg: Mapping[str, Any], *, data_sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase | None = None
) -> dict[str, Any]:
    """A copy of a model config that `build_model` can build: with the sizes of the data, and token ids for words.

    Args:
        data_sizes: the values for the keys of `FROM_DATA` that are None, from `read_data_sizes` of kovilt.engine.
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
    """Build a model from its completed config and hand it the answers in label order, which other models ignore.

    Raises:
        KeyError, TypeError, ValueError: of the registry and the constructors; ValueError also for answers that do not
            fit the answer head.
    """
    model = MODELS.build(copy.deepcopy(dict(model_cfg)))
    if answers is not None and isinstance(model, ViLTForVQA):
        model.set_answers(answers)
    return model


def build_model_or_refuse(
    model_cfg: Mapping[str, Any], *, answers: Sequence[str], source: str, is_stored: bool
) -> BaseModel:
    """As `build_model`; whatever the constructors raise becomes a KoviltError that names `source`.

    Args:
        is_stored: the config comes from a model folder or a checkpoint, and `check_stored` has passed it: names that
            constructors look up keep to the same rule.
    """
    try:
        with registered_names_only() if is_stored else nullcontext():
            return build_model(model_cfg, answers=answers)
    except Exception as error:
        raise KoviltError(f'{source}: its model cannot be built ({first_line(error)})') from error


def check_sizes(model_cfg: Mapping[str, Any], data_sizes: Mapping[str, Any]) -> None:
    """Compare the numbers that both the model config and the data state, before the first step.

    Raises:
        KoviltError: the texts, patches or answers of the data do not fit the model.
    """
    checks = [  # part and key of the model config, its relation to the data, what the data has
        ('encoder', 'vocab_size', operator.ge, 'the tokenizer has {} tokens; write None to take its size'),
        ('encoder', 'max_text_len', operator.ge, 'texts are cut to max_text_len={} tokens; give both the same number'),
        ('encoder', 'patch_size', operator.eq, 'Patchify cuts patches of {} pixels; give both the same number'),
        ('vqa_head', 'num_answers', operator.eq, 'the training data has {} answers; write None to take its count'),
    ]
    for part, key, fits, found in checks:
        ours, theirs = (model_cfg.get(part) or {}).get(key), data_sizes.get(key)
        if ours is not None and theirs is not None and not fits(ours, theirs):
            raise KoviltError(f'model.{part}.{key} is {ours}, but {found.format(theirs)}')


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
