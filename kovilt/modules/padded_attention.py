"""Attention by plain matrix products over padded rectangles of segments: the fastest in bfloat16 on a CPU.

There the backward pass of torch's fused kernel takes several times as long as these products, and products for each
segment alone would be too small.

Shapes: B pairs, R tokens of a packed tensor, h heads, d size of a head. A row is one head of one token, or padding; all
rectangles together have C rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RECTANGLE_PAIRS = 16  # neighbours in the order of length: little is padding, and the products are few
WIDTH_MULTIPLE = 16  # of the rectangles, so that few different widths occur


class PaddedLayout:
    """Where each head of each packed token lies in rectangles (pairs * h, width) of neighbouring pairs.

    The rectangles are padded to the longest segment of their pairs and follow one another.

    Args:
        lengths: int64 (B,), in packed order: the tokens of each segment; segments follow one another.
        num_heads: h.
        device: of the tokens; `lengths` are on the host.
    """

    def __init__(self, lengths: Tensor, num_heads: int, device: torch.device) -> None:
        self._num_heads = num_heads
        self._gather_indices: dict[tuple[int, ...], Tensor] = {}  # by number and strides of the parts
        self._scatter_indices: dict[int, Tensor] = {}  # by number of parts
        self._sizes: list[tuple[int, int]] = []  # pairs * h and width of each rectangle
        masks, tokens = [], []
        starts = lengths.cumsum(0) - lengths
        for length, start in zip(lengths.split(RECTANGLE_PAIRS), starts.split(RECTANGLE_PAIRS), strict=True):
            longest = int(length.max())
            width = longest if longest == 1 else -(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
            self._sizes.append((len(length) * num_heads, width))
            place = torch.arange(width)
            mask = place < length[:, None]  # (pairs, width)
            token = (start[:, None] + place).masked_fill(~mask, 0)
            masks.append(mask[:, None].expand(-1, num_heads, -1))
            tokens.append(token[:, None].expand(-1, num_heads, -1))
        all_heads = torch.arange(num_heads)[:, None]
        mask = torch.cat([mask.flatten() for mask in masks])  # bool (C,): True = a token
        token = torch.cat([token.flatten() for token in tokens])  # (C,); padding repeats token 0
        head = torch.cat([all_heads.expand_as(token).flatten() for token in tokens])  # (C,)
        rows = mask.nonzero().squeeze(1)
        row = torch.empty_like(rows)  # (R * h,): the row of each head of each token
        row[token[rows] * num_heads + head[rows]] = rows
        self.padding = (~mask).nonzero().squeeze(1).to(device)  # the rows that are padding
        self._mask, self._token, self._head, self._row = (x.to(device) for x in (mask, token, head, row))

    def gather(self, x: Tensor) -> Tensor:
        """Packed x (R, n, h, d) as rows (n, C, d).

        x may be a part of a larger projection: its rows are taken from where they lie in memory.
        """
        length, parts, heads, size = x.shape
        token_step, part_step = x.stride(0) // size, x.stride(1) // size
        rows = x.as_strided(((length - 1) * token_step + (parts - 1) * part_step + heads, size), (size, 1))
        key = parts, token_step, part_step
        if key not in self._gather_indices:  # once for all blocks of an encoder
            part = torch.arange(parts, device=x.device)[:, None]
            self._gather_indices[key] = (self._token * token_step + self._head + part * part_step).flatten()
        return rows.index_select(0, self._gather_indices[key]).view(parts, -1, size)

    def scatter(self, rows: Tensor, length: int) -> Tensor:
        """Rows (n, C, d) as packed tokens (length, n, h, d), the inverse of `gather`; 0 behind the last segment."""
        parts, _, size = rows.shape
        if parts not in self._scatter_indices:
            part = torch.arange(parts, device=rows.device)[:, None]
            self._scatter_indices[parts] = (self._row.view(-1, 1, self._num_heads) + part * len(self._token)).flatten()
        x = rows.new_empty(length, parts, self._num_heads, size)
        count = len(self._row) // self._num_heads
        torch.index_select(rows.flatten(0, 1), 0, self._scatter_indices[parts], out=x[:count].view(-1, size))
        x[count:] = 0
        return x

    def biases(self, dtype: torch.dtype) -> list[Tensor]:
        """For each rectangle (pairs * h, 1, width) to be added to scores: 0 for a token, -inf for padding."""
        bias = torch.zeros_like(self._mask, dtype=dtype).masked_fill_(~self._mask, -torch.inf)
        return [rectangle.mT for rectangle in self.rectangles(bias)]

    def rectangles(self, rows: Tensor) -> list[Tensor]:
        """Rows (C, d) as views (pairs * h, width, d)."""
        parts = rows.split([count * width for count, width in self._sizes])
        return [part.view(*size, -1) for part, size in zip(parts, self._sizes, strict=True)]


class GatheredRows(torch.autograd.Function):
    """`PaddedLayout.gather`, with its inverse as the gradient: no padding may take part in what is computed.

    Autograd would add up the gradient row by row, though every token is gathered once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: PaddedLayout) -> Tensor:
        ctx.layout, ctx.length = layout, len(x)
        return layout.gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.layout.scatter(grad, ctx.length), None


class PaddedAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v within each segment.

    As with `GatheredRows`, gradients are gathered, and written without a copy to where they belong.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, q_layout: PaddedLayout, kv_layout: PaddedLayout) -> Tensor:
        """q (R, h, d) of the queries and kv (T, 2, h, d) of all tokens, with their layouts; returns (R, h, d)."""
        (q_rows,), (k_rows, v_rows) = q_layout.gather(q[:, None]), kv_layout.gather(kv)
        y_rows, weights = torch.empty_like(q_rows), []
        for q_, k, v, b, y in zip(
            q_layout.rectangles(q_rows.mul_(q.shape[-1] ** -0.5)),
            kv_layout.rectangles(k_rows),
            kv_layout.rectangles(v_rows),
            kv_layout.biases(q.dtype),
            q_layout.rectangles(y_rows),
            strict=True,
        ):
            weights.append(torch.baddbmm(b, q_, k.mT).softmax(-1))
            torch.bmm(weights[-1], v, out=y)
        ctx.save_for_backward(q_rows, k_rows, v_rows, *weights)
        ctx.layouts, ctx.lengths = (q_layout, kv_layout), (len(q), len(kv))
        return q_layout.scatter(y_rows[None], len(q)).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        q_layout, kv_layout = ctx.layouts
        q_rows, k_rows, v_rows, *weights = ctx.saved_tensors
        (grad_rows,) = q_layout.gather(grad[:, None].contiguous())
        grad_rows.index_fill_(0, q_layout.padding, 0)  # no output was taken from there
        dq_rows, dkv_rows = torch.empty_like(q_rows), k_rows.new_empty(2, *k_rows.shape)
        for dy, p, q, k, v, dq, dk, dv in zip(
            q_layout.rectangles(grad_rows),
            weights,
            q_layout.rectangles(q_rows),
            kv_layout.rectangles(k_rows),
            kv_layout.rectangles(v_rows),
            q_layout.rectangles(dq_rows),
            *map(kv_layout.rectangles, dkv_rows),
            strict=True,
        ):
            torch.bmm(p.mT, dy, out=dv)
            ds = torch._softmax_backward_data(dy @ v.mT, p, -1, p.dtype)
            torch.bmm(ds, k, out=dq)
            torch.bmm(ds.mT, q, out=dk)
        dq_rows.mul_(q_rows.shape[-1] ** -0.5)
        dq = q_layout.scatter(dq_rows[None], ctx.lengths[0]).squeeze(1)
        return dq, kv_layout.scatter(dkv_rows, ctx.lengths[1]), None, None
