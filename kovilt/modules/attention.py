"""Multi-head self-attention over packed words and patches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kovilt.modules.int8 import part_of_linear
from kovilt.modules.packing import Output, Packing, needs_shape_buckets

HAS_VARLEN = find_spec('torch.nn.attention.varlen') is not None  # older torch: the plain path serves every device


def varlen_attn(*arguments: Any) -> Tensor:
    """torch's, imported where it is called: with it comes the compiler, a second that other devices need not wait."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn(*arguments)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the words and patches of each pair together (eq. 4), but for its dropout.

    Shapes: T rows of all pairs, R rows that are output, D hidden size, h heads.
    """

    def __init__(self, *, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f'hidden_size {hidden_size} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every row of x (T, D), each (T, h, D/h)."""
        # unbind, as its backward pass lays the three gradients side by side once; that of a slice fills up with zeros
        return self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(1)

    def project(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the `rows` (R,) of x (T, D), or all, ask: (R, h, D/h); keys and values of every row: (T, 2, h, D/h)."""
        if rows is None:
            q, kv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).split((1, 2), dim=1)
            return q.squeeze(1), kv
        return self.queries(x.index_select(0, rows)), self.keys_values(x)

    def queries(self, x: Tensor) -> Tensor:
        """x (R, D); returns (R, h, D/h)."""
        return part_of_linear(self.qkv, x, slice(x.shape[-1])).unflatten(-1, (self.num_heads, -1))

    def keys_values(self, x: Tensor) -> Tensor:
        """x (T, D); returns (T, 2, h, D/h)."""
        return part_of_linear(self.qkv, x, slice(x.shape[-1], None)).unflatten(-1, (2, self.num_heads, -1))

    def attend(self, q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
        """What q (R, h, D/h), the rows that `output` keeps, take from kv (T, 2, h, D/h) of their pairs; (R, D)."""
        return self.proj(attention(q, *kv.unbind(1), packing, output))


def attention(q: Tensor, k: Tensor, v: Tensor, packing: Packing, output: Output) -> Tensor:
    """What queries (R, h, D/h) take from keys and values (T, h, D/h) of their pairs, the heads side by side: (R, D)."""
    attend = _attend_varlen if _has_varlen(q) else _attend_rectangle if _is_cpu_bfloat16(q) else _attend_groups
    return attend(q, k, v, packing, output).flatten(1)


@contextmanager
def fast_attention(device: torch.device) -> Iterator[None]:
    """For encoders that call torch's own attention: by plain matrix products under bfloat16 autocast on a CPU.

    There the backward pass of torch's kernel would take more than half of a small model's step (see
    `_attend_rectangle`). Elsewhere torch chooses.
    """
    if needs_shape_buckets(device):
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


def _has_varlen(q: Tensor) -> bool:
    return HAS_VARLEN and q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)


def _is_cpu_bfloat16(q: Tensor) -> bool:
    return q.device.type == 'cpu' and q.dtype == torch.bfloat16


def _attend_groups(q: Tensor, k: Tensor, v: Tensor, packing: Packing, output: Output) -> Tensor:
    """Attention run by run; a run is a rectangle of equal pairs, so there is neither padding nor mask."""
    asked = [run.pairs * run.length_of(output) for run in packing.runs]
    known = [run.pairs * run.length for run in packing.runs]
    out = []
    for run, qs, ks, vs in zip(packing.runs, q.split(asked), k.split(known), v.split(known), strict=True):
        qs, ks, vs = (t.unflatten(0, (run.pairs, -1)).transpose(1, 2) for t in (qs, ks, vs))  # (pairs, h, n, D/h)
        out.append(F.scaled_dot_product_attention(qs, ks, vs).transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def _attend_rectangle(q: Tensor, k: Tensor, v: Tensor, packing: Packing, output: Output) -> Tensor:
    """The same for all pairs at once by plain matrix products; what pads the rectangle has no weight.

    For bfloat16 on a CPU, where products of many small runs, or the backward pass of torch's attention kernel, would
    take most of a small model's step.
    """
    asked, _, back = packing.rectangle(output)
    known, there, _ = packing.rectangle('all')
    bias = torch.zeros_like(there, dtype=q.dtype).masked_fill(~there, -torch.inf)[:, None, None]  # (B, 1, 1, N)

    def spread(rows: Tensor, index: Tensor) -> Tensor:  # (B, h, N, D/h)
        rows = rows.flatten(1).index_select(0, index)
        return rows.view(packing.num_pairs, -1, *q.shape[1:]).transpose(1, 2)

    scores = spread(q * q.shape[-1] ** -0.5, asked) @ spread(k, known).transpose(-1, -2) + bias
    out = scores.softmax(-1) @ spread(v, known)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, back)


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, packing: Packing, output: Output) -> Tensor:
    """The same by one variable-length kernel."""
    ends_q, longest_q = packing.cu_seqlens(output)
    ends_k, longest_k = packing.cu_seqlens('all')
    return varlen_attn(q, k, v, ends_q, ends_k, longest_q, longest_k)
