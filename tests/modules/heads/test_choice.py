"""The options of a question compete among themselves alone, and the matching head is a choice head."""

import pytest
import torch
import torch.nn.functional as F

from kovilt.modules.heads.choice import ChoiceHead, pad_options
from kovilt.modules.heads.itm import ITMHead

OFFSETS = torch.tensor([0, 2, 6, 9])


def test_a_question_has_its_own_scores_and_nothing_where_it_has_fewer_options():
    padded = pad_options(torch.arange(9.0), OFFSETS)
    assert padded[0].tolist() == [0, 1, -torch.inf, -torch.inf] and padded[1].tolist() == [2, 3, 4, 5]
    assert padded[2].tolist() == [6, 7, 8, -torch.inf]


def test_the_loss_is_the_mean_over_questions_of_their_cross_entropies():
    torch.manual_seed(0)
    head = ChoiceHead(hidden_size=8, loss_weight=3.0, init_std=0.5)
    pooled, label = torch.randn(9, 8, requires_grad=True), torch.tensor([1, 0, 2])
    scores = head(pooled)[:, 0]
    alone = [F.cross_entropy(scores[a:b], one) for a, b, one in zip(OFFSETS, OFFSETS[1:], label, strict=False)]
    values = head.loss(pooled, label, OFFSETS)
    torch.testing.assert_close(values['choice_loss'], 3 * torch.stack(alone).mean())
    right = [int(scores[a:b].argmax() == one) for a, b, one in zip(OFFSETS, OFFSETS[1:], label, strict=False)]
    assert float(values['choice_accuracy']) == pytest.approx(sum(right) / 3)
    values['choice_loss'].backward()
    assert torch.isfinite(pooled.grad).all() and (pooled.grad.abs().sum(dim=1) > 0).all()


@torch.no_grad()
def test_of_a_matching_head_the_score_is_the_log_odds_of_matching():
    torch.manual_seed(0)
    itm, head = ITMHead(hidden_size=8, loss_weight=1.0, init_std=0.5), ChoiceHead(hidden_size=8, init_std=0.5)
    itm.fc.bias += torch.randn(2)
    weight, bias = ChoiceHead.from_matching(itm.fc.weight, itm.fc.bias)
    head.fc.weight.copy_(weight), head.fc.bias.copy_(bias)
    pooled = torch.randn(5, 8)
    torch.testing.assert_close(head(pooled)[:, 0], itm(pooled).softmax(dim=1)[:, 1].logit())
