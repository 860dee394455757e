"""int8 inference on CPUs: linear layers that take a third to a quarter of the time, with nearly the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MAX = 127  # the range is -127..127, without -128, so that one scale serves both signs
# Computed at once: larger results exceed what malloc keeps (32 MB), and the system clears their memory at every call.
_ROWS = 2048


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale for each output, and inputs quantised row by row.

    A scale is the largest absolute value of an output's weights, or of an input row, over 127. Products are summed
    exactly in int32, so that the outputs of a row do not depend on the other rows of the batch.

    oneDNN multiplies; with AMX by a kernel whose weights are arranged once, not again for each product.

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
        self._packed: dict[tuple[int, int], Any] = {}  # weights in oneDNN's layout, by first and last output

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        """x float32 (R, K); returns (R, N), or only the named outputs."""
        first, last, _ = outputs.indices(self.out_features)
        return by_chunks(lambda rows: self._forward(rows, first, last), x)

    def _forward(self, x: Tensor, first: int, last: int) -> Tensor:
        x, scale = _quantize_rows(x)
        y = self._product(x, first, last)
        return torch.addcmul(self.bias[first:last], y, scale, out=y)

    def _product(self, x: Tensor, first: int, last: int) -> Tensor:
        """x int8 (R, K) times the weights of the outputs from `first` to `last`, float32 (R, last - first)."""
        scale = self.scale[first:last]
        if not _has_packed_product():
            return torch._int_mm(x, self.weight[first:last].t()).float().mul_(scale)
        if (first, last) not in self._packed:
            self._packed[first, last] = torch.ops.onednn.qlinear_prepack(self.weight[first:last].contiguous(), None)
        return _packed_product(x, self._packed[first, last], scale)


def _packed_product(x: Tensor, packed: Any, scale: Tensor) -> Tensor:
    """As `Int8Linear._product`, in one pass."""
    # oneDNN's kernel wants uint8 with a zero point; with int8 it would fall back to one that is thousands of times
    # slower. Flipping the sign bit adds 128.
    shifted, zero = x.view(torch.uint8).bitwise_xor(128), torch.zeros(len(scale), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        shifted, 1.0, 128, packed, scale, zero, None, 1.0, 0, torch.float32, 'none', [], ''
    )


@cache
def _has_packed_product() -> bool:
    """Whether packed weights pay: with AMX. With AVX512-VNNI alone `torch._int_mm` is as fast (measured)."""
    get_capabilities = getattr(torch.cpu, 'get_capabilities', None)
    has_amx = bool(get_capabilities and get_capabilities().get('amx_int8', False))
    return has_amx and hasattr(torch.ops.onednn, 'qlinear_pointwise')


class RowChunks(nn.Module):
    """Computes a module chunk by chunk of its rows, each of which depends on itself alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """x (R, D); returns (R, D)."""
        return by_chunks(self.module, x)


def by_chunks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), computed chunk by chunk if x has many rows."""
    if len(x) <= _ROWS:
        return function(x)
    return torch.cat([function(rows) for rows in x.split(_ROWS)])


def _quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float32 (R, K) as int8, and the scale of each row, (R, 1): rows = int8 * scale, but for rounding."""
    absolute = rows.abs()
    scale = absolute.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny * _MAX) / _MAX
    return torch.div(rows, scale, out=absolute).round_().to(torch.int8), scale  # into memory that is in the cache


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
    linear = Int8Linear(nn.Linear(256, 64, bias=False))
    linear.weight.fill_(_MAX)
    linear.scale.fill_(1.0)
    x = torch.full((64, 256), _MAX, dtype=torch.int8)
    return bool((linear._product(x, 0, 64) == 256 * _MAX**2).all())
