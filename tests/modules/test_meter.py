"""Co-attention against torch's own attention, and what must not change a pair's states."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.meter import CoAttentionBlock, CrossModal, PostNormAttention

B, L, N, D = 3, 5, 7, 16
SIZES = dict(
    text_dim=12, image_dim=20, hidden_size=D, num_layers=2, num_heads=4, mlp_ratio=2.0, drop_rate=0.1, init_std=0.2
)


@pytest.fixture
def fusion() -> CrossModal:
    torch.manual_seed(0)
    fusion = CrossModal(**SIZES, image_pooling='first').eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)  # no bias is zero, no norm is one
    return fusion


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Texts of 5, 3 and 1 tokens, their mask, and states of the image encoder."""
    torch.manual_seed(1)
    text_mask = torch.arange(L) < torch.tensor([[5], [3], [1]])
    return torch.randn(B, L, 12), text_mask, torch.randn(B, N, 20)


def plain_attention(part: PostNormAttention, x: Tensor, context: Tensor, padding: Tensor | None) -> Tensor:
    theirs = nn.MultiheadAttention(D, part.num_heads, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([part.q.weight, part.kv.weight])
    theirs.in_proj_bias.data = torch.cat([part.q.bias, part.kv.bias])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = part.proj.weight, part.proj.bias
    y = theirs(x, context, context, key_padding_mask=padding, need_weights=False)[0]
    return F.layer_norm(x + y, (D,), part.norm.weight, part.norm.bias, 1e-12)


def plain_block(block: CoAttentionBlock, x: Tensor, other: Tensor, padding, other_padding) -> Tensor:
    x = plain_attention(block.attn, x, x, padding)
    x = plain_attention(block.cross, x, other, other_padding)
    y = block.mlp.fc2(F.gelu(block.mlp.fc1(x)))
    return F.layer_norm(x + y, (D,), block.norm.weight, block.norm.bias, 1e-12)


@torch.no_grad()
def test_it_is_multi_head_attention_in_berts_order_with_both_modalities_in_step(fusion, pairs):
    text, text_mask, states = pairs
    tokens = fusion.text_proj(text) + fusion.modality_embed.weight[0]
    images = fusion.image_proj(states) + fusion.modality_embed.weight[1]
    ours = fusion(text, text_mask, fusion.embed_images(states))
    for text_block, image_block in zip(fusion.text_blocks, fusion.image_blocks, strict=True):
        before = tokens
        tokens = plain_block(text_block, tokens, images, ~text_mask, None)
        images = plain_block(image_block, images, before, None, ~text_mask)
    torch.testing.assert_close(ours[0][text_mask], tokens[text_mask], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], images, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_and_other_pairs_change_nothing(fusion, pairs):
    text, text_mask, states = pairs
    tokens, images = fusion(text, text_mask, fusion.embed_images(states))
    pooled = fusion.pool(tokens, images)
    for row, length in enumerate(text_mask.sum(dim=1).tolist()):
        one = slice(row, row + 1)
        alone = fusion(text[one, :length], text_mask[one, :length], fusion.embed_images(states[one]))
        torch.testing.assert_close(alone[0], tokens[one, :length], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fusion.pool(*alone), pooled[one], rtol=1e-4, atol=1e-5)
    changed = fusion(text.masked_fill(~text_mask[..., None], 9.0), text_mask, fusion.embed_images(states))
    torch.testing.assert_close(fusion.pool(*changed), pooled, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('image_pooling', ['first', 'mean'])
def test_output_changes_what_is_returned_and_no_value(fusion, pairs, image_pooling):
    text, text_mask, states = pairs
    fusion.image_pooling = image_pooling
    images = fusion.embed_images(states)
    tokens, patches = fusion(text, text_mask, images)
    only_text = fusion(text, text_mask, images, output='text')
    torch.testing.assert_close(only_text[0], tokens)
    assert only_text[1] is None
    pooled = fusion(text, text_mask, images, output='cls')
    assert pooled[0].shape == (B, 1, D)
    torch.testing.assert_close(fusion.pool(*pooled), fusion.pool(tokens, patches), rtol=1e-4, atol=1e-5)


def test_the_poolers_take_the_first_states_or_the_mean_of_the_image(fusion):
    tokens, images = torch.randn(B, L, D), torch.randn(B, N, D)
    first = fusion.pool(tokens, images)
    assert first.shape == (B, 2 * D)
    torch.testing.assert_close(first[:, D:], torch.tanh(fusion.image_pooler(images[:, 0])))
    fusion.image_pooling = 'mean'
    mean = fusion.pool(tokens, images)
    torch.testing.assert_close(mean[:, :D], torch.tanh(fusion.text_pooler(tokens[:, 0])))
    torch.testing.assert_close(mean[:, D:], torch.tanh(fusion.image_pooler(images.mean(dim=1))))


def test_only_training_drops(fusion, pairs):
    text, text_mask, states = pairs
    run = lambda: fusion.pool(*fusion(text, text_mask, fusion.embed_images(states)))  # noqa: E731
    assert torch.equal(run(), run())
    fusion.train()
    assert not torch.equal(run(), run())


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match='hidden_size 16 is not a multiple of num_heads 3'):
        CrossModal(**SIZES | dict(num_heads=3), image_pooling='first')
    with pytest.raises(ValueError, match="image_pooling is 'cls'; it must be one of 'first', 'mean'"):
        CrossModal(**SIZES, image_pooling='cls')
