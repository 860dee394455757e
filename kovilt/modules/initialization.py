"""How weights start before training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def init_weights(module: nn.Module, std: float) -> None:
    """Initialise a linear or embedding layer as BERT and ViLT do: weights N(0, std), biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def sincos_positions(grid_size: int, hidden_size: int) -> Tensor:
    """Fixed sine and cosine position embeddings of a square grid (MoCo v3, arXiv 2104.02057, section 4.1).

    A start from which training goes on: small models learn sooner from scratch when neighbouring patches begin with
    similar positions. Returns (grid_size^2, hidden_size).

    Raises:
        ValueError: hidden_size is not a multiple of 4 (sine and cosine of two axes).
    """
    if hidden_size % 4:
        raise ValueError(f'hidden_size {hidden_size} is not a multiple of 4')
    axis = torch.arange(grid_size, dtype=torch.float32)
    rates = torch.exp(-math.log(100.0) * torch.arange(hidden_size // 4) / (hidden_size // 4))
    angles = axis[:, None] * rates  # (g, D/4)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (g, D/2)
    return torch.cat([code.repeat_interleave(grid_size, 0), code.repeat(grid_size, 1)], dim=1)
