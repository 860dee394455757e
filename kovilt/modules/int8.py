"""int8 for answering on CPUs: linear layers of a third or a quarter of the time, nearly the same numbers."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MOST = 127  # -127..127 and no -128, so that a scale serves both signs


class Int8Linear(nn.Module):
    """A linear layer with weights in int8, one scale for each output, and inputs brought to int8 row by row.

    Scales are those of the largest number of an output's weights or of a row. Products are summed exactly in int32, so
    what a row gives does not depend on the rows beside it.

    Shapes: R rows, K inputs, N outputs.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scale = _to_int8(linear.weight.detach().float())
        self.register_buffer('weight', weight)  # int8 (N, K)
        self.register_buffer('scale', scale[:, 0])  # (N,)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer('bias', bias)  # (N,)

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        """x float32 (R, K); returns (R, N), or of the outputs that are named."""
        x, scale = _to_int8(x)
        y = torch._int_mm(x, self.weight[outputs].t())  # int32
        return y.float().mul_(scale).mul_(self.scale[outputs]).add_(self.bias[outputs])


def _to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (R, K) as int8, and what each row is to be multiplied by to have them back, (R, 1)."""
    scale = rows.abs().amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny * _MOST) / _MOST
    return (rows / scale).round_().to(torch.int8), scale


def part_of_linear(linear: nn.Linear | Int8Linear, x: Tensor, outputs: slice) -> Tensor:
    """Some outputs of a linear layer that gives several things at once, such as the queries of `qkv`."""
    if isinstance(linear, Int8Linear):
        return linear(x, outputs)
    return F.linear(x, linear.weight[outputs], linear.bias[outputs])


def make_int8(module: nn.Module) -> int:
    """Replaces every `nn.Linear` within `module` by its `Int8Linear`, for answering alone; returns how many.

    Raises:
        RuntimeError: this processor multiplies int8 only roughly.
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
    """Whether sums of the largest products come out right: older processors add two of them in 16 bits."""
    x = torch.full((64, 256), _MOST, dtype=torch.int8)
    return bool((torch._int_mm(x, x.t()) == 256 * _MOST**2).all())
