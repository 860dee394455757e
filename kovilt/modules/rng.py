"""Random numbers that belong to a sample, not to a process: the same on any device, in any batch, after any restart."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK_31, _MASK_27, _MASK_30 = (1 << 33) - 1, (1 << 37) - 1, (1 << 34) - 1
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def uniform(seed: Tensor, count: int, stream: int) -> Tensor:
    """`count` random numbers in [0, 1) for each seed: seed int64 (B,) gives float64 (B, count).

    `stream` separates the uses of one seed (which words are masked, what replaces them, ...). The k-th number of a seed
    does not depend on `count`, so that padding a batch to another length changes no number.
    """
    key = _mix(seed + torch.full_like(seed, stream) * _GOLDEN)
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=seed.device) * _GOLDEN
    bits = _mix(key[:, None] + counter)
    return ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014); the masks make the signed shifts logical."""
    x = (x ^ ((x >> 30) & _MASK_30)) * _MIX_1
    x = (x ^ ((x >> 27) & _MASK_27)) * _MIX_2
    return x ^ ((x >> 31) & _MASK_31)
