"""IPOT as one kernel for GPUs, in Triton, which torch's CUDA builds bring along.

The loop of `transport.ipot` takes about ten launches a step, each too small to fill a GPU, so launching is what it
waits for. Here one program holds the plan of one pair in registers from the first step to the last.
"""
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LARGEST = 16384            # numbers of a plan that one program can hold


def fits(cost: Tensor) -> bool:
    """Whether a pair's plan, both sides rounded up to powers of two, is small enough; cost (B, L, P)."""
    words, patches = (triton.next_power_of_2(size) for size in cost.shape[1:])
    return cost.numel() > 0 and words * patches <= _LARGEST


def ipot_kernel(
    cost: Tensor, word_mask: Tensor, patch_mask: Tensor, *, beta: float, iterations: int, between: int
) -> Tensor:
    """As `transport.ipot` with one inner iteration, folding every `between` steps; float32 cost for which `fits`."""
    plan = torch.empty_like(cost, memory_format=torch.contiguous_format)
    words, patches = (triton.next_power_of_2(size) for size in cost.shape[1:])
    _ipot[(len(cost),)](
        cost.contiguous(), word_mask.byte(), patch_mask.byte(), plan, cost.shape[1], cost.shape[2],
        1 / beta, ITERATIONS=iterations, BETWEEN=between, WORDS=words, PATCHES=patches,
        num_warps=min(max(words * patches // 1024, 1), 16))
    return plan


@triton.jit
def _ipot(
    cost_at, word_mask_at, patch_mask_at, plan_at, num_words, num_patches, sharpness,
    ITERATIONS: tl.constexpr, BETWEEN: tl.constexpr, WORDS: tl.constexpr, PATCHES: tl.constexpr,
):
    tiny = 1.1754943508222875e-38
    pair = tl.program_id(0).to(tl.int64)
    word, patch = tl.arange(0, WORDS), tl.arange(0, PATCHES)
    words = tl.load(word_mask_at + pair * num_words + word, mask=word < num_words, other=0).to(tl.float32)      # 0 or 1
    patches = tl.load(patch_mask_at + pair * num_patches + patch, mask=patch < num_patches, other=0).to(tl.float32)
    word_count, patch_count = tl.sum(words, axis=0), tl.sum(patches, axis=0)
    words *= tl.minimum(patch_count, 1.0)                                  # nobody in a pair without the others
    patches *= tl.minimum(word_count, 1.0)
    word_mass, patch_mass = words / tl.maximum(word_count, 1.0), patches / tl.maximum(patch_count, 1.0)
    inside = words[:, None] * patches[None, :] > 0
    place = (pair * num_words + word[:, None]) * num_patches + patch[None, :]
    cost = tl.load(cost_at + place, mask=inside, other=0.0)
    least = tl.min(tl.where(inside, cost, float('inf')), axis=1)
    start = tl.where(words > 0, tl.exp((tl.min(least, axis=0) - least) * sharpness), 0.0)
    kernel = tl.where(inside, tl.exp((tl.where(words > 0, least, 0.0)[:, None] - cost) * sharpness), 0.0)
    factor = words[:, None] * patches[None, :]
    u = words
    weight = word_mass * start
    for step in range(1, ITERATIONS + 1):
        factor = factor * kernel
        before = u
        v = patch_mass / tl.maximum(tl.sum(weight[:, None] * factor, axis=0), tiny)
        u = word_mass / tl.maximum(tl.sum(factor * v[None, :], axis=1), tiny)
        scale = u / tl.maximum(before, tiny)
        weight = u * scale
        if (step % BETWEEN == 0) | (step == ITERATIONS):
            factor = factor * u[:, None] * v[None, :]
            weight = scale
            u = words
    tl.store(plan_at + place, factor, mask=(word < num_words)[:, None] & (patch < num_patches)[None, :])
