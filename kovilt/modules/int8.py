"""int8 inference on CPUs: linear layers that take a third to a quarter of the time, with nearly the same outputs."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX = 127  # the range is -127..127, without -128, so that one scale serves both signs


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale for each output, and inputs quantised row by row.

    A scale is the largest absolute value of an output's weights, or of an input row, over 127. Products are summed
    exactly in int32, so that the outputs of a row do not depend on the other rows of the batch.

    Shapes: R rows, K inputs, N outputs.
    """

    weight: Tensor  # int8 (N, K)
    scale: Tensor  # float32 (N,)
    bias: Tensor  # float32 (N,)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scale = _quantize_rows(linear.weight.detach().float())
        self.register_buffer('weight', weight)
        self.register_buffer('scale', scale[:, 0])
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer('bias', bias)

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        """x float32 (R, K); returns (R, N), or only the named outputs."""
        x, scale = _quantize_rows(x)
        y = torch._int_mm(x, self.weight[outputs].t())  # int32
        return y.float().mul_(scale).mul_(self.scale[outputs]).add_(self.bias[outputs])


def _quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (R, K) as int8, and the scale of each row, (R, 1): rows = int8 * scale, but for rounding."""
    scale = rows.abs().amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny * _MAX) / _MAX
    return (rows / scale).round_().to(torch.int8), scale


def linear_slice(linear: nn.Linear | Int8Linear, x: Tensor, outputs: slice) -> Tensor:
    """Some outputs of a linear layer that projects to several things at once, such as the queries of `qkv`."""
    if isinstance(linear, Int8Linear):
        return linear(x, outputs)
    return F.linear(x, linear.weight[outputs], linear.bias[outputs])


def make_int8(module: nn.Module) -> int:
    """Replace every `nn.Linear` within `module` by its `Int8Linear`, for inference; returns how many.

    Raises:
        RuntimeError: this CPU does not multiply int8 exactly.
    """
    if not _is_exact():
        raise RuntimeError(
            'this processor has no exact products of int8 (on x86: AVX512-VNNI, AVX-VNNI or AMX); answer in float32'
        )
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name, child in found:
        setattr(parent, name, Int8Linear(child))
    return len(found)


@cache
def _is_exact() -> bool:
    """Whether sums of the largest products are right: older CPUs add two products in 16 bits and saturate."""
    x = torch.full((64, 256), _MAX, dtype=torch.int8)
    return bool((torch._int_mm(x, x.t()) == 256 * _MAX**2).all())
