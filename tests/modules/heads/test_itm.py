"""Negatives of image-text matching: half of the pairs, and never another file of the same image."""

import torch

from kovilt.modules import ITMHead


def test_half_of_the_pairs_get_an_image_of_another_identity():
    image_index = torch.arange(64) // 4  # 16 images with four texts each
    image_id = torch.arange(16) // 2 + 100  # two files of each identity
    for step in range(20):
        exchanged, matched = ITMHead.sample_negatives(image_index, image_id, torch.arange(64) + 1000 * step)
        assert int(matched.sum()) == 32
        same = image_id[exchanged] == image_id[image_index]
        assert torch.equal(same, matched)
        assert torch.equal(exchanged[matched], image_index[matched])


def test_every_other_image_may_be_a_negative():
    image_index, image_id = torch.zeros(4000, dtype=torch.int64), torch.tensor([5, 6, 7])
    exchanged, matched = ITMHead.sample_negatives(image_index, image_id, torch.arange(4000))
    counts = torch.bincount(exchanged[~matched], minlength=3)
    assert counts[0] == 0 and (counts[1:] > 900).all()


def test_a_batch_about_one_image_stays_matched():
    exchanged, matched = ITMHead.sample_negatives(torch.zeros(6, dtype=torch.int64), torch.tensor([9]), torch.arange(6))
    assert matched.all() and (exchanged == 0).all()


def test_loss_and_accuracy():
    head = ITMHead(hidden_size=4, loss_weight=1.0, init_std=0.02)
    pooled, matched = torch.randn(6, 4), torch.tensor([True, False, True, True, False, False])
    losses = head.loss(pooled, matched)
    torch.testing.assert_close(losses['itm_loss'], torch.nn.functional.cross_entropy(head(pooled), matched.long()))
    assert losses['itm_accuracy'] == ((head(pooled)[:, 1] > head(pooled)[:, 0]) == matched).float().mean()
