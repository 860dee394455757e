"""The config part of a model folder or a checkpoint: values of the right types that name registered parts only."""

from __future__ import annotations

from typing import Any

from kovilt.formats.fields import Field, check_field, check_fields
from kovilt.registry import MODELS, TRANSFORMS, check_stored

_PART = Field(dict, is_required=True)
_STEP = dict(type=Field(str, is_required=True), tokenizer=Field(str), max_text_len=Field(int, low=3, high=100_000))
_MODEL = dict(
    type=Field(str, is_required=True), encoder=_PART, data_preprocessor=Field(dict), vqa_head=Field(dict),
    choice_head=Field(dict), mlm_head=Field(dict), itm_head=Field(dict), wpa_head=Field(dict),
)  # fmt: skip
_VQA_HEAD = dict(num_answers=Field(int, low=1))


def check_stored_model(model: Any, source: str) -> None:
    """Check the config of a model that a file holds. Nothing is imported or built.

    Raises:
        KoviltError: a value of a wrong type, or a type that `check_stored` refuses; it names `source` and the key.
    """
    check_stored(model, MODELS, source)
    check_fields(model, _MODEL, source)
    if model.get('vqa_head') is not None:
        check_fields(model['vqa_head'], _VQA_HEAD, f'{source}.vqa_head')


def check_stored_pipeline(steps: Any, source: str) -> None:
    """Check the transforms that a file holds. Raises KoviltError as `check_stored_model`."""
    check_stored(steps, TRANSFORMS, source)
    check_field(steps, Field(list, items=Field(dict)), source)
    for i, step in enumerate(steps):
        check_fields(step, _STEP, f'{source}.{i}')
