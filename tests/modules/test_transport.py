"""Transport against POT's exact earth mover's distance."""

import numpy as np
import pytest
import torch

from benchmarks.transport import exact_plans, published_ipot, random_states
from kovilt.modules.transport import ipot, transport_cost, transport_distance

PAIRS, TOKENS, PATCHES = 6, 8, 30


def make_pairs(*, shared_direction: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Costs (B, L, P) of random states and ragged masks; deep layers' states share a direction."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(32, generator=generator) * shared_direction
    tokens = torch.randn(PAIRS, TOKENS, 32, generator=generator) + direction
    patches = torch.randn(PAIRS, PATCHES, 32, generator=generator) + direction
    token_mask = torch.arange(TOKENS) < torch.tensor([8, 5, 3, 8, 1, 6])[:, None]
    patch_mask = torch.arange(PATCHES) < torch.tensor([30, 24, 30, 20, 12, 30])[:, None]
    return transport_cost(tokens, patches), token_mask, patch_mask


def exact(cost, token_mask, patch_mask) -> np.ndarray:
    """The exact distance of each pair, of its tokens and patches alone."""
    return transport_distance(cost, exact_plans(cost, token_mask, patch_mask)).numpy()


@pytest.mark.parametrize('shared_direction', [0.0, 2.0])
@pytest.mark.parametrize('beta, iterations, bound', [(0.5, 50, 0.05), (0.5, 2000, 0.002), (0.1, 500, 0.002)])
def test_distance_is_close_to_the_exact_one(shared_direction, beta, iterations, bound):
    cost, token_mask, patch_mask = make_pairs(shared_direction=shared_direction)
    plan = ipot(cost, token_mask, patch_mask, beta=beta, iterations=iterations)
    distance, expected = transport_distance(cost, plan).numpy(), exact(cost, token_mask, patch_mask)
    assert (np.abs(distance - expected) / expected).max() < bound


@pytest.mark.parametrize('shared_direction', [0.0, 2.0])
@pytest.mark.parametrize('beta, iterations', [(0.5, 50), (0.5, 3), (0.1, 50), (0.05, 30)])
def test_the_plan_is_that_of_the_published_loop(shared_direction, beta, iterations):
    cost, token_mask, patch_mask = make_pairs(shared_direction=shared_direction)
    expected = published_ipot(cost.double(), token_mask, patch_mask, beta=beta, iterations=iterations)
    plan = ipot(cost, token_mask, patch_mask, beta=beta, iterations=iterations)
    torch.testing.assert_close(plan.double(), expected, rtol=0, atol=1e-6)


def test_a_small_beta_is_within_one_percent_of_the_exact_distance_where_the_published_one_is_not():
    tokens, token_mask, patches, patch_mask = random_states(pairs=6, width=768, direction=2.3)
    cost = transport_cost(tokens, patches)
    expected = exact(cost, token_mask, patch_mask)

    def errors(beta: float, iterations: int) -> np.ndarray:
        plan = ipot(cost, token_mask, patch_mask, beta=beta, iterations=iterations)
        return np.abs(transport_distance(cost, plan).numpy() / expected - 1)

    assert errors(0.05, 30).max() < 0.01 and np.median(errors(0.5, 50)) > 0.04


def test_tokens_carry_equal_mass_and_what_is_masked_carries_none():
    cost, token_mask, patch_mask = make_pairs(shared_direction=0.0)
    plan = ipot(cost, token_mask, patch_mask, beta=0.5, iterations=50)
    assert (plan[~token_mask] == 0).all() and (plan.transpose(1, 2)[~patch_mask] == 0).all()
    torch.testing.assert_close(plan.sum(dim=2), token_mask / token_mask.sum(dim=1, keepdim=True), rtol=0, atol=1e-6)
    torch.testing.assert_close(plan.sum(dim=1), patch_mask / patch_mask.sum(dim=1, keepdim=True), rtol=0, atol=5e-3)


def test_what_lies_behind_a_mask_changes_nothing():
    cost, token_mask, patch_mask = make_pairs(shared_direction=0.0)
    changed = torch.where(token_mask[:, :, None] & patch_mask[:, None, :], cost, torch.rand_like(cost) * 100)
    plans = [ipot(c, token_mask, patch_mask, beta=0.5, iterations=20) for c in (cost, changed)]
    torch.testing.assert_close(*plans)


def test_pairs_without_tokens_or_patches_are_harmless():
    cost, token_mask, patch_mask = make_pairs(shared_direction=0.0)
    tokens, patches = token_mask.clone(), patch_mask.clone()
    tokens[0], patches[1] = False, False
    plan = ipot(cost, tokens, patches, beta=0.5, iterations=50)
    assert (plan[:2] == 0).all()
    torch.testing.assert_close(plan[2:], ipot(cost, token_mask, patch_mask, beta=0.5, iterations=50)[2:])


@pytest.mark.parametrize('beta', [0.5, 0.02])
def test_extreme_costs_stay_finite(beta):
    cost = torch.stack([torch.zeros(4, 7), torch.full((4, 7), 2.0), torch.eye(4, 7) * 2])
    plan = ipot(cost, torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 7, dtype=torch.bool), beta=beta, iterations=100)
    assert plan.isfinite().all()
    torch.testing.assert_close(transport_distance(cost, plan)[:2], torch.tensor([0.0, 2.0]), rtol=0, atol=1e-3)


def test_gradient_is_that_of_the_exact_distance_at_its_plan():
    cost, token_mask, patch_mask = make_pairs(shared_direction=0.0)
    cost = cost.double().requires_grad_()
    plan = ipot(cost, token_mask, patch_mask, beta=0.5, iterations=500)
    transport_distance(cost, plan).sum().backward()
    assert not plan.requires_grad
    torch.testing.assert_close(cost.grad, plan)


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('beta, iterations', [(0.5, 50), (0.05, 30)])
def test_float32_on_any_device_gives_the_plan_of_float64(device, beta, iterations):
    tokens, token_mask, patches, patch_mask = random_states(pairs=8, width=768, direction=1.0)
    cost = transport_cost(tokens, patches)
    plan = ipot(cost.to(device), token_mask.to(device), patch_mask.to(device), beta=beta, iterations=iterations)
    exact_plan = ipot(cost.double(), token_mask, patch_mask, beta=beta, iterations=iterations)
    torch.testing.assert_close(plan.cpu().double(), exact_plan, rtol=0, atol=1e-6)
    distances = [transport_distance(cost.double(), one) for one in (plan.cpu().double(), exact_plan)]
    torch.testing.assert_close(*distances, rtol=1e-4, atol=0)
