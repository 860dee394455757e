"""Optimal transport between the words and the patches of a pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_COST = 2.0
_LARGEST_EXPONENT = 40.0  # of an unfolded factor: what u and v then hold is finite in float32, and so is its square


def transport_cost(words: Tensor, patches: Tensor) -> Tensor:
    """Cosine distance of each word to each patch, 0 to 2; words (B, L, D) and patches (B, P, D) give (B, L, P)."""
    return 1 - F.normalize(words, dim=-1, eps=1e-5) @ F.normalize(patches, dim=-1, eps=1e-5).transpose(1, 2)


@torch.no_grad()
def ipot(
    cost: Tensor, word_mask: Tensor, patch_mask: Tensor, *, beta: float, iterations: int, inner_iterations: int = 1
) -> Tensor:
    """Transport plans by the inexact proximal point method (IPOT; Xie et al., UAI 2020, arXiv 1802.04307, algorithm 1).

    Every word of a pair carries the mass 1 / (its number of words), every patch 1 / (its number of patches). The error
    against the exact plan falls with iterations / beta alone, so a smaller beta needs fewer iterations. Words have
    their mass exactly, patches nearly, and the less so the smaller beta is.

    The published loop rescales the whole plan twice in every step. Here the plan is held as u * factor * v, u of words
    and v of patches: a step multiplies the factor by the kernel and weighs it twice. Only every 20 * beta steps, before
    they outgrow float32, u and v are folded into it.

    Args:
        cost: float32 or float64 (B, L, P), 0 to 2.
        word_mask: bool (B, L), True = takes part.
        patch_mask: bool (B, P).
        beta: strength of the proximal term, in units of cost.
        iterations: proximal steps.
        inner_iterations: scalings of the plan within each step.

    Returns:
        Plans (B, L, P), detached; 0 wherever a mask is False, and everywhere in a pair without words or patches.
    """
    mask = word_mask[:, :, None] & patch_mask[:, None, :]
    word_mask, patch_mask = mask.any(dim=2), mask.any(dim=1)  # nobody in a pair without the others
    word_mass = word_mask / word_mask.sum(dim=1, keepdim=True).clamp(min=1).to(cost.dtype)
    patch_mass = patch_mask / patch_mask.sum(dim=1, keepdim=True).clamp(min=1).to(cost.dtype)
    # The least cost of each word is taken off it, which keeps exp away from underflow and changes u alone, once the
    # first weighing has been told of it.
    least = cost.masked_fill(~mask, torch.inf).amin(dim=2)  # (B, L)
    start = ((least.amin(dim=1, keepdim=True) - least) / beta).exp().masked_fill(~word_mask, 0)
    kernel = ((least.masked_fill(~word_mask, 0)[:, :, None] - cost) / beta).exp().masked_fill_(~mask, 0)  # (B, L, P)
    tiny = torch.finfo(cost.dtype).tiny
    between = max(1, int(_LARGEST_EXPONENT / _LARGEST_COST * beta))  # steps from one folding to the next
    weight = word_mass * start
    factor, u = mask.to(cost.dtype), word_mask.to(cost.dtype)
    for step in range(1, iterations + 1):
        factor.mul_(kernel)
        before = u
        for _ in range(inner_iterations):
            v = patch_mass / (weight[:, None] @ factor).squeeze(1).clamp_(min=tiny)  # (B, P)
            u = word_mass / (factor @ v[:, :, None]).squeeze(2).clamp_(min=tiny)  # (B, L)
            weight = u
        scale = u / before.clamp(min=tiny)  # of this step alone
        weight = u * scale
        if step % between == 0 or step == iterations:  # fold u and v into the factor
            factor.mul_(u[:, :, None]).mul_(v[:, None, :])
            weight, u = scale, word_mask.to(cost.dtype)
    return factor


def transport_distance(cost: Tensor, plan: Tensor) -> Tensor:
    """<cost, plan> of each pair, (B,). At the optimum a constant plan gives the gradient of the exact distance."""
    return (cost * plan).sum(dim=(1, 2))
