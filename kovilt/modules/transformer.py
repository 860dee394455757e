"""The transformer of ViLT: ViT's pre-norm blocks over packed sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.attention import SelfAttention
from kovilt.modules.packing import Output, Packing

Activation = Literal['gelu', 'relu']


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """ViLT's exact GELU, or ReLU, with which small models train faster on a CPU."""
    if name not in ('gelu', 'relu'):
        raise ValueError(f"activation {name!r} is neither 'gelu' nor 'relu'")
    # F.relu takes three times as long in bfloat16 on a CPU.
    return F.gelu if name == 'gelu' else partial(F.threshold, threshold=0.0, value=0.0)


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

    The paper's Korean text prints "Linear" in place of LN and closes the last bracket too late; this is ViLT's form.

    Shapes: T tokens of the packed sequence, R of them that are output, D hidden size.

    Attributes:
        compile_options: arguments of `torch.compile` for everything but attention, which depends on the layout of the
            batch; None = not compiled. Blocks of one shape share the compiled code.
    """

    compile_options: Mapping[str, Any] | None = None

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
        """x (T, D); returns the states of the tokens that `output` names, (R, D).

        Of the other tokens only keys and values are computed.
        """
        if output == 'all':
            q, kv = self._maybe_compiled(_project, x)
            return self.add_residuals(x, self.attn.attend(q, kv, packing, output))
        index, normed = packing.output_index(output), self.norm1(x)
        if output == 'cls' and self.attn.can_attend_from_cls(x.device):
            attended = self.attn.attend_from_cls(normed, packing)
        else:
            attended = self.attn.attend(*self.attn.project(normed, index), packing, output)
        return self.add_residuals(x.index_select(0, index), attended)

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """The second half of the block: x (R, D) plus the output of attention (R, D), then plus the MLP."""
        return self._maybe_compiled(_add_residuals, x, attended)

    def _maybe_compiled(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        if self.compile_options is not None:
            function = _compile(function, tuple(self.compile_options.items()))
        return function(self, *inputs)


def _project(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    return block.attn.project(block.norm1(x))


def _add_residuals(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.dropout(attended)
    return x + block.mlp(block.norm2(x))


@cache
def _compile(function: Callable[..., Any], options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Compile a function of a block and its inputs, once for any number of tokens.

    The block is an argument, not bound, so that a copy of a block does not call the original.
    """
    return torch.compile(function, **{'dynamic': True, **dict(options)})
