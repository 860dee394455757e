"""Observed attention is torch's attention, and the rules are those of the paper, written out element by element."""

import pytest
import torch
import torch.nn.functional as F

from kovilt.modules.relevance import BiModalRelevance, ObservedAttention, attention_weights, single_stream_relevance


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'scale': 0.3},
        {'attn_mask': random(5, 7) > 0.3},
        {'attn_mask': random(1, 1, 5, 7)},
        {'attn_mask': random(2, 1, 1, 7) > 0.3},
    ],
    ids=str,
)
def test_it_computes_what_torch_computes(options):
    q, k, v = random(2, 3, 5, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 6, seed=2)
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    with ObservedAttention() as observed:
        found = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(found, expected)
    (probabilities,) = observed.probabilities
    torch.testing.assert_close(probabilities @ v, expected)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 3, 5))
    F.scaled_dot_product_attention(q, k, v)  # outside of the context
    assert len(observed.probabilities) == 1


def test_its_mask_joins_that_of_the_call():
    q, one, other = random(1, 1, 4, 4), random(4, 4) > 0.3, random(4, 4, seed=1) > 0.3
    one[:, 0] = other[:, 0] = True
    with ObservedAttention(one):
        found = F.scaled_dot_product_attention(q, q, q, attn_mask=other)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, q, q, attn_mask=one & other))


@pytest.mark.parametrize('options', [{'dropout_p': 0.1}, {'is_causal': True}], ids=str)
def test_what_it_does_not_know_is_refused(options):
    q = random(1, 1, 4, 4)
    with ObservedAttention(), pytest.raises(ValueError, match='not observed'):
        F.scaled_dot_product_attention(q, q, q, **options)


@pytest.mark.parametrize('frozen', [False, True])
def test_weights_are_the_positive_part_of_gradient_times_attention(frozen):
    """Of a score that is linear in the output, the gradient of the probabilities is known."""
    q, v, direction = random(1, 2, 3, 4), random(1, 2, 3, 4, seed=1) - 0.5, random(4, seed=2) - 0.5
    q.requires_grad_(not frozen)
    with ObservedAttention() as observed:
        score = F.scaled_dot_product_attention(q, q, v)[0, :, 0].sum(0) @ direction
    (weight,) = attention_weights(score, observed.probabilities)
    (attention,) = observed.probabilities
    expected = (attention[0, :, 0] * (v[0] @ direction)).clamp(min=0).mean(0)
    torch.testing.assert_close(weight[0], expected.detach())
    assert not weight[1:].any() and q.grad is None and not weight.requires_grad


def test_the_row_of_a_single_stream_is_that_of_the_whole_matrix():
    weights = [random(4, 4, seed=seed) for seed in range(3)]
    relevance = torch.eye(4)
    for weight in weights:
        relevance = relevance + weight @ relevance
    expected = relevance[0].clone()
    expected[0] -= 1
    torch.testing.assert_close(single_stream_relevance(weights), expected)


def test_two_streams_follow_the_equations_of_the_paper():
    """Eq. 6 to 11 for a layer of self-attention and one of co-attention, with sums in place of matrix products."""
    length, states = 3, 4
    shapes = [(length, length), (states, states), *[(length, length), (length, states)]]
    shapes += [(states, states), (states, length)]
    own_text, own_image, text, text_to_image, image, image_to_text = (
        random(*shape, seed=seed) for seed, shape in enumerate(shapes)
    )
    text[1] = 0  # a token that attends to nothing
    own_text[1] = 0
    found = BiModalRelevance(length, states, torch.device('cpu'))
    found.attend_text(own_text)
    found.attend_image(own_image)
    found.co_attend(text, text_to_image, image, image_to_text)

    def normalized(relevance):
        rest = relevance - torch.eye(len(relevance))
        sums = rest.sum(1)
        return torch.stack([row / total if total else row for row, total in zip(rest, sums, strict=True)]) + torch.eye(
            len(relevance)
        )

    tt, ii = torch.eye(length) + own_text, torch.eye(states) + own_image
    before_tt, before_ii = tt, ii
    tt, ii = tt + text @ tt, ii + image @ ii
    ti = torch.einsum('ka,kb,bj->aj', normalized(tt), text_to_image, normalized(before_ii))
    it = torch.einsum('ka,kb,bj->aj', normalized(ii), image_to_text, normalized(before_tt))
    for one, other in (
        (found.text_text, tt),  # the other stream knew nothing of this one before the layer
        (found.image_image, ii),
        (found.text_image, ti),
        (found.image_text, it),
    ):
        torch.testing.assert_close(one, other)
    found.co_attend(text, text_to_image, image, image_to_text)
    torch.testing.assert_close(found.text_text, tt + text @ tt + text_to_image @ it)
    torch.testing.assert_close(found.image_image, ii + image @ ii + image_to_text @ ti)
