"""The answer head."""

import pytest
import torch
import torch.nn.functional as F

from kovilt.modules import VQAHead


def make_head(**arguments) -> VQAHead:
    return VQAHead(**dict(hidden_size=8, loss='cross_entropy', init_std=0.02) | arguments)


def test_hard_labels_are_cross_entropy_and_an_oov_answer_is_only_wrong():
    head = make_head(num_answers=5)
    pooled = torch.randn(4, 8)
    losses = head.loss(pooled, torch.tensor([0, 4, 2, 2]))
    torch.testing.assert_close(losses['vqa_loss'], F.cross_entropy(head(pooled), torch.tensor([0, 4, 2, 2])))
    oov = head.loss(pooled, torch.full((4,), -1))
    assert oov['vqa_loss'] == 0 and oov['vqa_accuracy'] == 0


def test_soft_labels_score_by_their_share():
    head = make_head(num_answers=3)
    pooled = torch.randn(2, 8)
    best = head(pooled).argmax(dim=1)
    soft = F.one_hot(best, 3).float() * torch.tensor([[0.3], [0.9]])
    torch.testing.assert_close(head.loss(pooled, soft)['vqa_accuracy'], torch.tensor(0.6))


def test_bce_is_vilts_loss():
    head = make_head(num_answers=5, loss='bce')
    pooled, soft = torch.randn(4, 8), torch.rand(4, 5)
    torch.testing.assert_close(
        head.loss(pooled, soft)['vqa_loss'], F.binary_cross_entropy_with_logits(head(pooled), soft) * 5
    )


def test_size_is_vilts():
    with torch.device('meta'):
        head = make_head(hidden_size=768, num_answers=3129)
    assert sum(parameter.numel() for parameter in head.parameters()) == 5_993_529


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="'mse'"):
        make_head(num_answers=5, loss='mse')
