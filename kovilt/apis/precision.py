"""The precision in which a trained model answers: float32, or one that some processors compute faster."""

from __future__ import annotations

import os
import warnings
from typing import Any, Literal, get_args

import torch
from torch import nn

from kovilt.errors import KoviltError, KoviltWarning
from kovilt.models.answering import AnsweringModel
from kovilt.modules.int8 import RowChunks, make_int8
from kovilt.modules.processor import has_fast_bfloat16
from kovilt.modules.vilt import ViLT
from kovilt.weights import GraphVQA

Precision = Literal['float32', 'bfloat16', 'int8']


def check_precision(precision: str, device: str | torch.device | None) -> None:
    """KoviltError unless there is such a precision, and it exists on the device (None = not chosen)."""
    if precision not in get_args(Precision):
        raise KoviltError(f'precision={precision!r}: give one of {", ".join(get_args(Precision))}')
    if precision == 'int8' and not str(device or 'cpu').startswith('cpu'):
        raise KoviltError(f'precision int8 is for CPUs; leave out the device {device}, or the precision')


def set_precision(model: Any, precision: Precision, source: str | os.PathLike[str]) -> None:
    """Let a model of float32 answer in another precision, on the device on which it is.

    In bfloat16 all linear layers multiply in bfloat16, and attention, too; norms, sums and scores remain float32. In
    int8 the linear layers of the blocks and of the patch embedding do (`kovilt.modules.int8`); the pooler and the head
    take no time.

    Args:
        source: the model folder or checkpoint, for messages.

    Warns:
        KoviltWarning: the processor is slow in bfloat16.

    Raises:
        KoviltError: the model cannot answer in this precision.
    """
    if precision == 'float32':
        return
    if isinstance(model, GraphVQA):
        hint = f'leave out precision {precision}'
        raise KoviltError(f'{source}: a graph has the precision that it was exported with; {hint}')
    if not isinstance(model, AnsweringModel):
        raise KoviltError(f'{source}: precision {precision} is for models that answer questions; leave it out')
    if precision == 'int8':
        _make_int8(model, source)
        return
    if next(model.parameters()).device.type == 'cpu' and not has_fast_bfloat16():
        message = 'precision bfloat16: this processor computes it slower than float32; leave it out, or try int8'
        warnings.warn(message, KoviltWarning, stacklevel=3)
    for module in model.modules():
        if type(module) is nn.Linear:  # once, which autocast would do at every call
            module.to(torch.bfloat16)
    model.answers_in_bfloat16 = True


def _make_int8(model: AnsweringModel, source: str | os.PathLike[str]) -> None:
    if not isinstance(model.encoder, ViLT):
        kind = type(model.encoder).__name__
        raise KoviltError(f'{source}: precision int8 is for ViLT and PrefixViLT, not for {kind}; leave it out')
    check_precision('int8', next(model.parameters()).device)
    try:
        for part in (model.encoder.image, *model.encoder.blocks):
            make_int8(part)
    except RuntimeError as error:
        raise KoviltError(f'precision int8: {error}') from error
    for block in model.encoder.blocks:
        block.mlp = RowChunks(block.mlp)  # type: ignore[assignment]  # it is called as the MLP is
