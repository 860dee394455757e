"""Multi-head self-attention over packed sequences of text tokens and patches."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kovilt.modules.int8 import linear_slice
from kovilt.modules.packing import Output, Packing, needs_shape_buckets
from kovilt.modules.padded_attention import RECTANGLE_PAIRS, GatheredRows, PaddedAttention

HAS_VARLEN = find_spec('torch.nn.attention.varlen') is not None  # False with an older torch


class SelfAttention(nn.Module):
    """Multi-head self-attention over the text tokens and patches of each pair together (eq. 4), without dropout.

    Projections and attention are separate methods, since a caller may need the keys and values of all tokens but the
    queries of some.

    Shapes: T tokens of the packed sequence, R of them that are output, D hidden size, h heads.
    """

    def __init__(self, *, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f'hidden_size {hidden_size} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def project(self, x: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Queries of the tokens `index` (R,) of x (T, D), or of all; keys and values of all tokens.

        Returns q (R, h, D/h) and kv (T, 2, h, D/h).
        """
        if index is None:
            q, kv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).split((1, 2), dim=1)
            return q.squeeze(1), kv
        return self.project_q(x.index_select(0, index)), self.project_kv(x)

    def project_q(self, x: Tensor) -> Tensor:
        """x (R, D); returns (R, h, D/h)."""
        return linear_slice(self.qkv, x, slice(x.shape[-1])).unflatten(-1, (self.num_heads, -1))

    def project_kv(self, x: Tensor) -> Tensor:
        """x (T, D); returns (T, 2, h, D/h)."""
        return linear_slice(self.qkv, x, slice(x.shape[-1], None)).unflatten(-1, (2, self.num_heads, -1))

    def can_attend_from_cls(self, device: torch.device) -> bool:
        """Whether `attend_from_cls` is possible, which int8 weights are not made for, and saves time: on a CPU."""
        return device.type == 'cpu' and type(self.qkv) is nn.Linear

    def attend_from_cls(self, x: Tensor, packing: Packing) -> Tensor:
        """What `attend` gives for the text [CLS] of each pair from x (T, D), in fewer operations; (B, D).

        The weights of keys and values are applied to the few queries and to what they sum up, not to all tokens:
        q (W_k x + b_k) = (q W_k) x + q b_k, where softmax ignores q b_k, and sum p (W_v x + b_v) = W_v sum p x + b_v.
        """
        w_q, w_k, w_v = self.qkv.weight.chunk(3)
        b_q, _, b_v = self.qkv.bias.chunk(3)
        w_k, w_v = (w.unflatten(0, (self.num_heads, -1)) for w in (w_k, w_v))  # (h, D/h, D)
        q = F.linear(x.index_select(0, packing.output_index('cls')), w_q, b_q).unflatten(-1, (self.num_heads, -1))
        q = (q.transpose(0, 1) @ w_k).transpose(0, 1) * q.shape[-1] ** -0.5  # (B, h, D)
        layout = packing.padded_layout('all', 1)
        rows = GatheredRows.apply(x.to(q.dtype)[:, None, None], layout)[0]
        sums = [
            torch.baddbmm(bias, part, states.mT).softmax(-1) @ states
            for part, states, bias in zip(
                q.split(RECTANGLE_PAIRS), layout.rectangles(rows), layout.biases(q.dtype), strict=True
            )
        ]
        y = torch.cat(sums).transpose(0, 1) @ w_v.mT  # (h, B, D/h)
        return self.proj(y.transpose(0, 1).flatten(1) + b_v.to(y.dtype))

    def attend(self, q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
        """`attend_segments` and the output projection; returns (R, D)."""
        return self.proj(attend_segments(q, kv, packing, output).flatten(1))


def attend_segments(q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
    """Attention within each segment, by the kernel that is fastest on the device.

    q (R, h, D/h) are the queries of the tokens that `output` names, kv (T, 2, h, D/h) keys and values of all; returns
    (R, h, D/h).
    """
    if HAS_VARLEN and q.is_cuda and q.dtype in (torch.float16, torch.bfloat16):
        kernel = _attend_varlen
    elif is_cpu_bfloat16(q):
        kernel = _attend_padded
    else:
        kernel = _attend_groups
    return kernel(q, kv, packing, output)


def fast_attention(device: torch.device) -> AbstractContextManager[None]:
    """Make torch's scaled_dot_product_attention use plain matrix products under bfloat16 autocast on a CPU.

    For encoders of other libraries. There the backward pass of torch's fused kernel would take more than half of a
    small model's step (see `PaddedAttention`). On other devices torch chooses the kernel.
    """
    return sdpa_kernel(SDPBackend.MATH) if needs_shape_buckets(device) else nullcontext()


def is_cpu_bfloat16(q: Tensor) -> bool:
    """Whether attention pads, as torch's kernel is slow."""
    return q.device.type == 'cpu' and q.dtype == torch.bfloat16


def _attend_groups(q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
    """Group by group: a group is a rectangle of segments of one length, so there is neither padding nor mask."""
    k, v = kv.unbind(1)
    q_lengths = [group.pairs * group.output_length(output) for group in packing.groups]
    kv_lengths = [group.pairs * group.length for group in packing.groups]
    parts = zip(packing.groups, q.split(q_lengths), k.split(kv_lengths), v.split(kv_lengths), strict=True)
    out = []
    for group, *qkv in parts:
        q_, k_, v_ = (x.unflatten(0, (group.pairs, -1)).transpose(1, 2) for x in qkv)  # (pairs, h, length, D/h)
        out.append(F.scaled_dot_product_attention(q_, k_, v_).transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def _attend_padded(q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
    """In bfloat16 on a CPU: rectangle by rectangle of neighbouring pairs, padded, by plain matrix products."""
    layouts = (packing.padded_layout(which, q.shape[1]) for which in (output, 'all'))
    y: Any = PaddedAttention.apply(q, kv, *layouts)
    return y


def _attend_varlen(q: Tensor, kv: Tensor, packing: Packing, output: Output) -> Tensor:
    """All segments by torch's variable-length kernel, flash-attention's."""
    # Imported here, since the import takes a second (it loads torch.compile), which other devices need not wait for.
    from torch.nn.attention.varlen import varlen_attn

    cu_seqlens_q, max_seqlen_q = packing.cu_seqlens(output)
    cu_seqlens_k, max_seqlen_k = packing.cu_seqlens('all')
    k, v = kv.unbind(1)
    y: Any = varlen_attn(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)  # a tuple on request alone
    return y
