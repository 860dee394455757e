"""Optimal transport between the text tokens and the patches of a pair.

Shapes: B pairs, L text tokens, P patches, D hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MAX_COST = 2.0  # of a cosine distance
_MAX_EXPONENT = 40.0  # of the scaling factors u and v: exp(40) and its square are finite in float32


def transport_cost(tokens: Tensor, patches: Tensor) -> Tensor:
    """Cosine distance of each token to each patch, 0 to 2: tokens (B, L, D) and patches (B, P, D) give (B, L, P)."""
    return 1 - F.normalize(tokens, dim=-1, eps=1e-5) @ F.normalize(patches, dim=-1, eps=1e-5).transpose(1, 2)


@torch.no_grad()
def ipot(cost: Tensor, token_mask: Tensor, patch_mask: Tensor, *, beta: float, iterations: int) -> Tensor:
    """Transport plans by the inexact proximal point method (IPOT; Xie et al., UAI 2020, arXiv 1802.04307, algorithm 1).

    Every token of a pair has the mass 1 / (its number of tokens), every patch 1 / (its number of patches). The error
    against the exact plan depends on iterations / beta alone, so that a smaller beta needs fewer iterations. The plan
    meets the masses of the tokens exactly and those of the patches nearly, the less so the smaller beta is.

    The published loop rescales the whole plan twice in every iteration. Here the plan is held as u * factor * v, with u
    of tokens and v of patches: an iteration multiplies the factor by the kernel and takes two matrix-vector products.
    u and v are multiplied into the factor only every 20 * beta iterations, before they overflow float32.

    Args:
        cost: float32 or float64 (B, L, P), 0 to 2.
        token_mask, patch_mask: bool (B, L) and (B, P), True = takes part.
        beta: strength of the proximal term, in units of cost.
        iterations: proximal steps, each with one Sinkhorn scaling.

    Returns:
        Plans (B, L, P), without gradient; 0 wherever a mask is False, and everywhere in a pair without tokens or
        without patches.
    """
    mask = token_mask[:, :, None] & patch_mask[:, None, :]
    token_mask, patch_mask = mask.any(dim=2), mask.any(dim=1)  # all False in a pair without tokens or without patches
    token_mass = token_mask / token_mask.sum(dim=1, keepdim=True).clamp(min=1).to(cost.dtype)
    patch_mass = patch_mask / patch_mask.sum(dim=1, keepdim=True).clamp(min=1).to(cost.dtype)
    # Subtracting the least cost of each token keeps exp from underflow. It changes u alone, once the first scaling of v
    # takes account of it (`start`).
    least = cost.masked_fill(~mask, torch.inf).amin(dim=2)  # (B, L)
    start = ((least.amin(dim=1, keepdim=True) - least) / beta).exp().masked_fill(~token_mask, 0)
    kernel = ((least.masked_fill(~token_mask, 0)[:, :, None] - cost) / beta).exp().masked_fill_(~mask, 0)  # (B, L, P)
    tiny = torch.finfo(cost.dtype).tiny
    fold_every = max(1, int(_MAX_EXPONENT / _MAX_COST * beta))  # iterations
    weight = token_mass * start
    factor, u = mask.to(cost.dtype), token_mask.to(cost.dtype)
    for iteration in range(1, iterations + 1):
        factor.mul_(kernel)
        before = u
        v = patch_mass / (weight[:, None] @ factor).squeeze(1).clamp_(min=tiny)  # (B, P)
        u = token_mass / (factor @ v[:, :, None]).squeeze(2).clamp_(min=tiny)  # (B, L)
        scale = u / before.clamp(min=tiny)  # of this iteration alone
        weight = u * scale
        if iteration % fold_every == 0 or iteration == iterations:
            factor.mul_(u[:, :, None]).mul_(v[:, None, :])
            weight, u = scale, token_mask.to(cost.dtype)
    return factor


def transport_distance(cost: Tensor, plan: Tensor) -> Tensor:
    """<cost, plan> of each pair, (B,). With the optimal plan, held constant, it has the exact distance's gradient."""
    return (cost * plan).sum(dim=(1, 2))
