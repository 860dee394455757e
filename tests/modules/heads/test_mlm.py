"""Masked words: what may be hidden, how often, and that a sample's masks are its own."""

import pytest
import torch

from kovilt.modules import MLMHead
from kovilt.modules.heads.mlm import IGNORE

SPECIAL = (0, 1, 2, 3, 17)
MASK = 3


def head(**changes) -> MLMHead:
    return MLMHead(hidden_size=8, vocab_size=40, mask_token_id=MASK, special_token_ids=SPECIAL, **changes)


def captions(count: int, length: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Captions of `length` tokens between [CLS] and [SEP] in words of two pieces, padded by 3."""
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.full((count, length + 5), 20)
    input_ids[:, 1 : length + 1] = torch.randint(20, 40, (count, length), generator=generator)
    word_ids = torch.full((count, length + 5), -1)
    word_ids[:, 1 : length + 1] = torch.arange(length) // 2
    return input_ids, word_ids, torch.arange(count) * 31


def test_whole_words_are_hidden_and_nothing_else():
    input_ids, word_ids, seed = captions(500)
    damaged, labels = head().mask_tokens(input_ids, word_ids, seed)
    hidden = labels != IGNORE
    assert not hidden[word_ids < 0].any()
    assert torch.equal(labels[hidden], input_ids[hidden]) and torch.equal(damaged[~hidden], input_ids[~hidden])
    first, second = hidden[:, 1:15:2], hidden[:, 2:15:2]
    assert torch.equal(first, second)  # both pieces of a word or none
    assert hidden.any(dim=1).all()  # at least one word a caption


def test_token_masking_splits_words():
    input_ids, word_ids, seed = captions(500)
    hidden = head(whole_word=False).mask_tokens(input_ids, word_ids, seed)[1] != IGNORE
    assert not torch.equal(hidden[:, 1:15:2], hidden[:, 2:15:2])
    assert not hidden[word_ids < 0].any()


def test_rates_are_fifteen_percent_and_80_10_10():
    input_ids, word_ids, seed = captions(4000, length=80)
    damaged, labels = head(mask_ratio=0.15).mask_tokens(input_ids, word_ids, seed)
    hidden = labels != IGNORE
    assert abs(hidden.sum() / (word_ids >= 0).sum() - 0.15) < 0.005
    masked, kept = (damaged == MASK)[hidden], (damaged == input_ids)[hidden]
    assert abs(masked.float().mean() - 0.8) < 0.01
    assert abs(kept.float().mean() - (0.1 + 0.1 / 35)) < 0.01  # a random token is the true one once in 35
    swapped = damaged[hidden & (damaged != MASK) & (damaged != input_ids)]
    assert not set(swapped.tolist()) & set(SPECIAL)
    assert set(swapped.tolist()) == set(range(40)) - set(SPECIAL)


def test_words_that_carry_content_are_hidden_more_often_and_whole():
    input_ids, word_ids, seed = captions(4000, length=80)
    content = (20, 21, 22)
    _, labels = head(mask_ratio=0.1, content_words=content, content_ratio=0.8).mask_tokens(input_ids, word_ids, seed)
    hidden, first = labels != IGNORE, slice(1, 81, 2)
    carries = torch.isin(input_ids, torch.tensor(content))
    carries = carries[:, first] | carries[:, 2:82:2]  # either piece of a word
    assert abs(hidden[:, first][carries].float().mean() - 0.8) < 0.01
    assert abs(hidden[:, first][~carries].float().mean() - 0.1) < 0.005
    assert torch.equal(hidden[:, first], hidden[:, 2:82:2])
    with pytest.raises(ValueError, match='content_ratio 1.5'):
        head(content_ratio=1.5)


def test_masks_belong_to_the_sample_whatever_the_batch():
    input_ids, word_ids, seed = captions(8)
    damaged, labels = head().mask_tokens(input_ids, word_ids, seed)
    wider = [torch.nn.functional.pad(t[5:6], (0, 4), value=v) for t, v in ((input_ids, 0), (word_ids, -1))]
    alone, alone_labels = head().mask_tokens(*wider, seed[5:6])
    assert torch.equal(alone[0, :-4], damaged[5]) and torch.equal(alone_labels[0, :-4], labels[5])


def test_a_caption_without_words_gives_zero_and_a_gradient():
    module = head()
    words = torch.randn(6, 8, requires_grad=True)
    losses = module.loss(words, torch.full((6,), IGNORE))
    assert losses['mlm_loss'] == 0
    losses['mlm_loss'].backward()
    assert words.grad is not None


def test_loss_is_the_mean_over_hidden_words():
    module = head()
    words, labels = torch.randn(6, 8), torch.tensor([IGNORE, 21, IGNORE, 30, 39, IGNORE])
    losses = module.loss(words, labels)
    expected = torch.nn.functional.cross_entropy(module(words), labels, ignore_index=IGNORE)
    torch.testing.assert_close(losses['mlm_loss'], expected)


def test_rounded_rows_do_not_count():
    torch.manual_seed(0)
    mlm = head()
    states, labels = torch.randn(50, 8), torch.full((50,), IGNORE)
    labels[::7] = torch.arange(5, 13)
    expected = mlm.loss(states, labels)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = mlm.loss(states, labels)
    torch.testing.assert_close(rounded['mlm_loss'], expected['mlm_loss'], rtol=0.02, atol=0)
    torch.testing.assert_close(rounded['mlm_accuracy'], expected['mlm_accuracy'], rtol=0, atol=0.13)


def test_a_share_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match='mask_ratio 1.5'):
        head(mask_ratio=1.5)
