"""Build the model that a model folder or a checkpoint describes, once its description agrees with the file's tensors.

A config of 10^6 layers or of 10^9 dimensions is a few characters, and building it fills the memory. So the numbers of
the config are first held against the number of tensors and values in the file; then the model is built without memory
(torch's meta device) and compared with the file; then it is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kovilt.errors import KoviltError
from kovilt.models.sizes import build_model_or_refuse

_COUNTS = re.compile(r'layers|depth|blocks|stages')  # keys of numbers of layers, each of which has tensors
_MAX_WINDOW = 64  # tokens a side, of Swin's attention, whose tables have their fourth power
_CREATORS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def build_stored_model(
    model_cfg: Mapping[str, Any],
    *,
    weights: Mapping[str, Tensor],
    compare: Callable[[BaseModel], None],
    answers: Sequence[str],
    source: str,
    is_stored: bool,
) -> BaseModel:
    """Build a model whose weights lie in a file.

    Args:
        model_cfg: completed, and passed by `kovilt.registry.check_stored` if it `is_stored` (comes from a file).
        weights: the file's tensors, or tensors of their sizes on the meta device.
        compare: raises a KoviltError if the tensors of the model, which it gets on the meta device, are not the file's.
        answers: of the answer head, in label order.
        source: where the config stands, for messages.

    Raises:
        KoviltError: a number that the weights contradict, a model that cannot be built, or what `compare` raises.
    """
    _check_numbers(model_cfg, source, num_tensors=len(weights), num_values=sum(map(Tensor.numel, weights.values())))
    compare(_build_without_memory(model_cfg, answers, source, is_stored))
    return build_model_or_refuse(model_cfg, answers=answers, source=source, is_stored=is_stored)


def _build_without_memory(
    model_cfg: Mapping[str, Any], answers: Sequence[str], source: str, is_stored: bool
) -> BaseModel:
    try:
        with torch.device('meta'):
            return build_model_or_refuse(model_cfg, answers=answers, source=source, is_stored=is_stored)
    except KoviltError as error:
        if 'meta tensor' not in str(error):
            raise
    with _WeightsOnMeta():  # some backbones compute with numbers of tensors, which meta tensors do not have
        return build_model_or_refuse(model_cfg, answers=answers, source=source, is_stored=is_stored)


class _WeightsOnMeta(TorchFunctionMode):
    """Tensors that parameters begin as have no memory; ranges and tables have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        return func(*args, **{**(kwargs or {}), **(dict(device='meta') if func in _CREATORS else {})})


def _check_numbers(node: Any, place: str, *, num_tensors: int, num_values: int) -> None:
    """KoviltError for a number that no model with so many tensors and values can have."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            _check_numbers(value, f'{place}.{key}', num_tensors=num_tensors, num_values=num_values)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _check_numbers(value, place, num_tensors=num_tensors, num_values=num_values)
    elif isinstance(node, int):
        key = place.rpartition('.')[2]
        limit, what = num_values, 'values'
        if _COUNTS.search(key):
            limit, what = num_tensors, 'tensors'
        elif 'window' in key:
            limit, what = _MAX_WINDOW, 'tokens a side at most'
        if abs(node) > limit:
            raise KoviltError(f'{place} is {node}, but its weights have {limit:,} {what}; take the files of one model')
