"""Masked language modelling: what may be masked, how often, and that the masks of a sample depend on it alone."""

import pytest
import torch

from kovilt.modules import MLMHead
from kovilt.modules.heads.mlm import IGNORE_INDEX

SPECIAL = (0, 1, 2, 3, 17)
MASK = 3


def make_head(**arguments) -> MLMHead:
    sizes = dict(hidden_size=8, vocab_size=40, mask_token_id=MASK, special_token_ids=SPECIAL)
    objective = dict(mask_ratio=0.15, whole_word=True, loss_weight=1.0, activation='gelu', init_std=0.02)
    return MLMHead(**sizes | objective | arguments)


def captions(count: int, length: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Captions of `length` tokens between [CLS] and [SEP] in words of two tokens, padded by 3."""
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.full((count, length + 5), 20)
    input_ids[:, 1 : length + 1] = torch.randint(20, 40, (count, length), generator=generator)
    word_ids = torch.full((count, length + 5), -1)
    word_ids[:, 1 : length + 1] = torch.arange(length) // 2
    return input_ids, word_ids, torch.arange(count) * 31


def test_whole_words_are_masked_and_nothing_else():
    input_ids, word_ids, seed = captions(500)
    masked_ids, labels = make_head().mask_tokens(input_ids, word_ids, seed)
    masked = labels != IGNORE_INDEX
    assert not masked[word_ids < 0].any()
    assert torch.equal(labels[masked], input_ids[masked]) and torch.equal(masked_ids[~masked], input_ids[~masked])
    first, second = masked[:, 1:15:2], masked[:, 2:15:2]
    assert torch.equal(first, second)  # both tokens of a word or none
    assert masked.any(dim=1).all()  # at least one word a caption


def test_token_masking_splits_words():
    input_ids, word_ids, seed = captions(500)
    masked = make_head(whole_word=False).mask_tokens(input_ids, word_ids, seed)[1] != IGNORE_INDEX
    assert not torch.equal(masked[:, 1:15:2], masked[:, 2:15:2])
    assert not masked[word_ids < 0].any()


def test_rates_are_fifteen_percent_and_80_10_10():
    input_ids, word_ids, seed = captions(4000, length=80)
    masked_ids, labels = make_head(mask_ratio=0.15).mask_tokens(input_ids, word_ids, seed)
    masked = labels != IGNORE_INDEX
    assert abs(masked.sum() / (word_ids >= 0).sum() - 0.15) < 0.005
    as_mask, same = (masked_ids == MASK)[masked], (masked_ids == input_ids)[masked]
    assert abs(as_mask.float().mean() - 0.8) < 0.01
    assert abs(same.float().mean() - (0.1 + 0.1 / 35)) < 0.01  # a random token is the true one once in 35
    swapped = masked_ids[masked & (masked_ids != MASK) & (masked_ids != input_ids)]
    assert not set(swapped.tolist()) & set(SPECIAL)
    assert set(swapped.tolist()) == set(range(40)) - set(SPECIAL)


def test_content_words_are_masked_more_often_and_whole():
    input_ids, word_ids, seed = captions(4000, length=80)
    content = (20, 21, 22)
    _, labels = make_head(mask_ratio=0.1, content_words=content, content_ratio=0.8).mask_tokens(
        input_ids, word_ids, seed
    )
    masked, first = labels != IGNORE_INDEX, slice(1, 81, 2)
    carries = torch.isin(input_ids, torch.tensor(content))
    carries = carries[:, first] | carries[:, 2:82:2]  # either token of a word
    assert abs(masked[:, first][carries].float().mean() - 0.8) < 0.01
    assert abs(masked[:, first][~carries].float().mean() - 0.1) < 0.005
    assert torch.equal(masked[:, first], masked[:, 2:82:2])
    with pytest.raises(ValueError, match='content_ratio is 1.5; it must be above 0 and at most 1'):
        make_head(content_ratio=1.5)


def test_masks_depend_on_the_sample_and_not_on_the_batch():
    input_ids, word_ids, seed = captions(8)
    masked_ids, labels = make_head().mask_tokens(input_ids, word_ids, seed)
    wider = [torch.nn.functional.pad(t[5:6], (0, 4), value=v) for t, v in ((input_ids, 0), (word_ids, -1))]
    alone, alone_labels = make_head().mask_tokens(*wider, seed[5:6])
    assert torch.equal(alone[0, :-4], masked_ids[5]) and torch.equal(alone_labels[0, :-4], labels[5])


def test_a_caption_without_words_gives_zero_and_a_gradient():
    module = make_head()
    states = torch.randn(6, 8, requires_grad=True)
    losses = module.loss(states, torch.full((6,), IGNORE_INDEX))
    assert losses['mlm_loss'] == 0
    losses['mlm_loss'].backward()
    assert states.grad is not None


def test_loss_is_the_mean_over_masked_tokens():
    module = make_head()
    states, labels = torch.randn(6, 8), torch.tensor([IGNORE_INDEX, 21, IGNORE_INDEX, 30, 39, IGNORE_INDEX])
    losses = module.loss(states, labels)
    expected = torch.nn.functional.cross_entropy(module(states), labels, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(losses['mlm_loss'], expected)


def test_padding_to_a_bucket_does_not_count():
    torch.manual_seed(0)
    mlm = make_head()
    states, labels = torch.randn(50, 8), torch.full((50,), IGNORE_INDEX)
    labels[::7] = torch.arange(5, 13)
    expected = mlm.loss(states, labels)
    with torch.autocast('cpu', torch.bfloat16):
        padded = mlm.loss(states, labels)
    torch.testing.assert_close(padded['mlm_loss'], expected['mlm_loss'], rtol=0.02, atol=0)
    torch.testing.assert_close(padded['mlm_accuracy'], expected['mlm_accuracy'], rtol=0, atol=0.13)


def test_a_share_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match='mask_ratio is 1.5; it must be above 0 and below 1'):
        make_head(mask_ratio=1.5)
