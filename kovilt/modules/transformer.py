"""The transformer of ViLT: ViT's pre-norm blocks over packed words and patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.attention import SelfAttention, attention
from kovilt.modules.packing import Output, Packing

Activation = Literal['gelu', 'relu']


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """ViLT's exact GELU, or ReLU, with which small models train faster on a CPU."""
    if name not in ('gelu', 'relu'):
        raise ValueError(f"activation {name!r} is neither 'gelu' nor 'relu'")
    return F.gelu if name == 'gelu' else _relu


def _relu(x: Tensor) -> Tensor:
    return F.threshold(x, 0.0, 0.0)  # the same; torch's relu takes three times as long in bfloat16 on a CPU


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, *, hidden_size: int, mlp_size: int, drop_rate: float, activation: Activation) -> None:
        super().__init__()
        self.activation = activation_function(activation)
        self.fc1 = nn.Linear(hidden_size, mlp_size)
        self.fc2 = nn.Linear(mlp_size, hidden_size)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(x)))))


class Block(nn.Module):
    """ViT's pre-norm block: h^ = MHA(LN(h)) + h ; h' = MLP(LN(h^)) + h^ (eq. 4 and 5).

    The paper's Korean text prints "Linear" where ViLT has LN and closes the last bracket too late; this is ViLT's form.

    Attributes:
        compiling: what `torch.compile` is given for what is done to each row by itself, all but the attention; None =
            do not compile. Blocks of one shape share what is compiled.
    """

    compiling: Mapping[str, Any] | None = None

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        mlp_size: int,
        drop_rate: float,
        norm_eps: float,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.attn = SelfAttention(hidden_size=hidden_size, num_heads=num_heads)
        self.dropout = nn.Dropout(drop_rate)
        self.norm2 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.mlp = MLP(hidden_size=hidden_size, mlp_size=mlp_size, drop_rate=drop_rate, activation=activation)

    def forward(self, x: Tensor, packing: Packing, output: Output = 'all') -> Tensor:
        """x (T, D); returns the rows that `output` keeps, (R, D). The others serve as keys and values only."""
        if output == 'all':
            q, k, v = self._per_row(_ask, x)
            return self.update(x, self.attn.proj(attention(q, k, v, packing, output)))
        rows = packing.rows(output)
        q, kv = self.attn.project(self.norm1(x), rows)
        return self.update(x.index_select(0, rows), self.attn.attend(q, kv, packing, output))

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (R, D) with what its attention brought, (R, D), and what the MLP makes of both."""
        return self._per_row(_update, x, attended)

    def _per_row(self, function: Callable, *rows: Tensor):
        if self.compiling is not None:
            function = _compiled(function, tuple(self.compiling.items()))
        return function(self, *rows)


def _ask(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return block.attn.heads(block.norm1(x))


def _update(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.dropout(attended)
    return x + block.mlp(block.norm2(x))


@cache
def _compiled(function: Callable, options: tuple[tuple[str, Any], ...]) -> Callable:
    """Compiled once for any number of rows; a function of the block, so that a copied block does not call the old."""
    return torch.compile(function, **{'dynamic': True, **dict(options)})
