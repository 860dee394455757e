"""The answer head."""

import math

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


def teacher_of(head: VQAHead, rows: int) -> torch.Tensor:
    """Log-probabilities of a random teacher."""
    return torch.randn(rows, head.num_answers).log_softmax(dim=1)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_distillation_is_the_divergence_of_hinton_mixed_with_the_labels(temperature):
    head = make_head(num_answers=5, distillation_weight=0.3, distillation_temperature=temperature, loss_weight=2.0)
    pooled, label = torch.randn(4, 8), torch.tensor([0, 4, 2, 2])
    teacher = teacher_of(head, 4)
    losses = head.loss(pooled, label, teacher)
    scores = head(pooled)
    divergence = F.kl_div(
        F.log_softmax(scores / temperature, dim=1), F.softmax(teacher / temperature, dim=1), reduction='batchmean'
    )
    torch.testing.assert_close(losses['distillation_loss'], 2.0 * 0.3 * temperature**2 * divergence)
    torch.testing.assert_close(losses['vqa_loss'], 2.0 * 0.7 * F.cross_entropy(scores, label))
    by_hand = sum(
        p * (math.log(p) - q) for p, q in zip(teacher[0].exp().tolist(), scores[0].log_softmax(0).tolist(), strict=True)
    )
    alone = make_head(num_answers=5, distillation_weight=1.0)
    alone.load_state_dict(head.state_dict())
    assert alone.loss(pooled[:1], label[:1], teacher[:1])['distillation_loss'].item() == pytest.approx(
        by_hand, abs=1e-5
    )


def test_a_student_that_is_its_teacher_diverges_by_nothing():
    head = make_head(num_answers=5, distillation_weight=1.0, distillation_temperature=4.0)
    pooled = torch.randn(3, 8)
    losses = head.loss(pooled, torch.tensor([0, 1, 2]), head(pooled).detach().log_softmax(dim=1))
    assert losses['distillation_loss'].item() == pytest.approx(0, abs=1e-6) and losses['vqa_loss'] == 0


def test_the_gradient_at_a_high_temperature_is_that_of_matching_logits():
    """Hinton et al. 2015, equation 4: for T much above the logits it is (z - v) / C, both centred."""
    head = make_head(num_answers=5, distillation_weight=1.0, distillation_temperature=1000.0)
    scores, teacher = torch.randn(1, 5, dtype=torch.float64, requires_grad=True), torch.randn(1, 5, dtype=torch.float64)
    divergence, _ = head._divergence(scores, teacher.log_softmax(dim=1))
    (gradient,) = torch.autograd.grad(divergence.sum(), scores)
    centred = [x - x.mean() for x in (scores.detach(), teacher)]
    torch.testing.assert_close(gradient, (centred[0] - centred[1]) / 5, atol=1e-2, rtol=1e-2)


def test_answers_that_the_teacher_does_not_list_have_no_probability():
    head = make_head(num_answers=5, distillation_weight=1.0)
    pooled, label, teacher = torch.randn(1, 8), torch.tensor([1]), torch.full((1, 5), -math.inf)
    teacher[0, 1], teacher[0, 3] = math.log(0.6), math.log(0.2)
    expected = F.kl_div(head(pooled).log_softmax(dim=1), torch.tensor([[0, 0.75, 0, 0.25, 0]]), reduction='batchmean')
    torch.testing.assert_close(head.loss(pooled, label, teacher)['distillation_loss'], expected)


def test_a_pair_without_scores_learns_from_its_label_alone():
    head = make_head(num_answers=5, distillation_weight=0.8, distillation_temperature=2.0)
    plain = make_head(num_answers=5)
    plain.load_state_dict(head.state_dict())
    pooled, label = torch.randn(2, 8), torch.tensor([1, 3])
    teacher = teacher_of(head, 2)
    teacher[1] = -math.inf
    both = head.loss(pooled, label, teacher)
    first = head.loss(pooled[:1], label[:1], teacher[:1])
    second = plain.loss(pooled[1:], label[1:])
    torch.testing.assert_close(2 * both['vqa_loss'], first['vqa_loss'] + second['vqa_loss'])
    torch.testing.assert_close(2 * both['distillation_loss'], first['distillation_loss'])
    none = head.loss(pooled, label, torch.full((2, 5), -math.inf))
    assert none['distillation_loss'] == 0 and torch.equal(none['vqa_loss'], plain.loss(pooled, label)['vqa_loss'])
    none['distillation_loss'].backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_without_weight_the_loss_is_the_plain_one_bit_for_bit():
    head, plain = make_head(num_answers=5, distillation_weight=0.0), make_head(num_answers=5)
    plain.load_state_dict(head.state_dict())
    pooled, soft = torch.randn(4, 8), torch.rand(4, 5)
    for label in (torch.tensor([0, 4, 2, -1]), soft):
        ours, theirs = head.loss(pooled, label, teacher_of(head, 4)), plain.loss(pooled, label)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_are_soft_cross_entropy():
    head = make_head(num_answers=3)
    pooled, weights = torch.randn(2, 8), torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(head.loss(pooled, weights)['vqa_loss'], F.cross_entropy(head(pooled), weights))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(distillation_weight=0.5, loss='bce'), "distillation_weight is 0.5, which needs loss='cross_entropy'"),
        (dict(distillation_weight=1.5), 'distillation_weight is 1.5; it must be .*at most 1'),
        (dict(distillation_temperature=0), 'distillation_temperature is 0; it must be .*above 0'),
    ],
)
def test_distillation_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_head(num_answers=5, **arguments)
