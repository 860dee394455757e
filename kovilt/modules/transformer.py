"""The transformer of ViLT: ViT's pre-norm blocks over packed words and patches."""
from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.attention import SelfAttention
from kovilt.modules.packing import Packing, Read

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
    """

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
        self.attn = SelfAttention(hidden_size=hidden_size, num_heads=num_heads, drop_rate=drop_rate)
        self.norm2 = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.mlp = MLP(hidden_size=hidden_size, mlp_size=mlp_size, drop_rate=drop_rate, activation=activation)

    def forward(self, x: Tensor, packing: Packing, read: Read = 'all') -> Tensor:
        """x (T, D); returns the rows that `read` keeps, (R, D). The others serve as keys and values only."""
        rows = None if read == 'all' else packing.rows(read)
        attended = self.attn(self.norm1(x), packing, read, rows)
        return self.update(x if rows is None else x.index_select(0, rows), attended)

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (R, D) with what its attention brought, (R, D), and what the MLP makes of both."""
        x = attended + x
        return x + self.mlp(self.norm2(x))
