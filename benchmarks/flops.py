"""FLOPs: the operations of a model's matrix products, counted by torch on tensors that have shapes but no numbers.

A multiplication and an addition count as two operations. What is counted is what kovilt computes: no padding, and in
the last block only the states that are read. (On a CPU, `SelfAttention.attend_from_cls` reaches the same with fewer.)
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA


def forward_flops(model: ViLTForVQA, batch: Batch) -> int:
    """FLOPs of one forward pass to the scores of a batch, whose layout is on the host.

    A training step takes three times as many, less those of the gradient of the pixels, which nobody computes.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shapes: Any = {**batch, 'patches': batch['patches'].to('meta')}
    if next(model.parameters()).device.type != 'meta':
        model = without_numbers(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.scores(model.data_preprocessor(shapes))
    return counter.get_total_flops()


def without_numbers(model: ViLTForVQA) -> ViLTForVQA:
    """A copy of the model on the meta device, in evaluation mode: it computes shapes only and takes no memory."""
    from torch import nn

    memo: dict[int, Any] = {id(value): nn.Parameter(value.detach().to('meta')) for value in model.parameters()}
    memo |= {id(value): value.to('meta') for value in model.buffers()}
    copied = copy.deepcopy(model, memo).eval()
    copied.data_preprocessor.to('meta')  # its device is an attribute, not a tensor
    return copied
