"""The alignment head: float32 under any autocast, and the two definitions of the loss."""

import pytest
import torch

from kovilt.modules import WPAHead

TOKEN_MASK = torch.ones(4, 3, dtype=torch.bool)
PATCH_MASK = torch.ones(4, 5, dtype=torch.bool)
MATCHED = torch.tensor([True, False, True, False])


def make_head(**arguments) -> WPAHead:
    return WPAHead(**dict(loss_weight=0.5, mismatched='ignore', beta=0.05, iterations=30) | arguments)


def states() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 16, generator=generator), torch.randn(4, 5, 16, generator=generator)


def test_the_paper_uses_matched_pairs_alone_and_vilt_pushes_the_others_apart():
    tokens, patches = states()
    distance, _ = make_head()(tokens, TOKEN_MASK, patches, PATCH_MASK)
    paper = make_head().loss(tokens, TOKEN_MASK, patches, PATCH_MASK, MATCHED)
    vilt = make_head(loss_weight=0.1, mismatched='push').loss(tokens, TOKEN_MASK, patches, PATCH_MASK, MATCHED)
    torch.testing.assert_close(paper['wpa_loss'], 0.5 * distance[MATCHED].mean())
    torch.testing.assert_close(vilt['wpa_loss'], 0.1 * (distance[MATCHED].sum() - distance[~MATCHED].sum()) / 4)
    torch.testing.assert_close(paper['wpa_mismatched_distance'], distance[~MATCHED].mean())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_transport_is_float32_under_autocast(dtype):
    tokens, patches = (t.to(dtype) for t in states())
    plain, _ = make_head()(tokens.float(), TOKEN_MASK, patches.float(), PATCH_MASK)
    with torch.autocast('cpu', dtype=dtype):
        distance, plan = make_head()(tokens, TOKEN_MASK, patches, PATCH_MASK)
    assert distance.dtype == plan.dtype == torch.float32
    assert torch.equal(distance, plain)


def test_gradients_are_finite_even_for_equal_and_opposite_states():
    tokens, patches = states()
    tokens[0], patches[0], patches[1] = 1.0, 1.0, -patches[1]
    tokens[2] = 0.0
    tokens, patches = tokens.requires_grad_(), patches.requires_grad_()
    make_head().loss(tokens, TOKEN_MASK, patches, PATCH_MASK, MATCHED)['wpa_loss'].backward()
    assert tokens.grad.isfinite().all() and patches.grad.isfinite().all() and patches.grad.abs().sum() > 0


def test_mean_centering_removes_a_shift_of_a_modality():
    tokens, patches = states()
    token_mask = TOKEN_MASK.clone()
    token_mask[0, 2] = False
    shifted = tokens + 5.0
    shifted[0, 2] = 100.0  # what the mask leaves out does not count in the mean
    head = make_head(mean_center=True)
    distance, plan = head(tokens, token_mask, patches, PATCH_MASK)
    again, same_plan = head(shifted, token_mask, patches - 3.0, PATCH_MASK)
    torch.testing.assert_close(distance, again, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plan, same_plan, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(make_head()(shifted, token_mask, patches, PATCH_MASK)[0], distance, atol=0.05)


def test_a_batch_without_matched_pairs_costs_nothing():
    losses = make_head().loss(*states()[:1], TOKEN_MASK, states()[1], PATCH_MASK, torch.zeros(4, dtype=torch.bool))
    assert losses['wpa_loss'] == 0


def test_an_unknown_definition_is_refused():
    with pytest.raises(ValueError, match="'pull'"):
        make_head(mismatched='pull')
