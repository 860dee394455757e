from __future__ import annotations

import pytest
import torch

from kovilt.engine.schedule import WarmupLinearLR
from kovilt.errors import KoviltError


def optimizer():
    groups = [{'params': [torch.nn.Parameter(torch.zeros(1))], 'lr': lr} for lr in (1.0, 10.0)]
    return torch.optim.SGD(groups)


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append([group['lr'] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize('steps', [1, 2, 7, 10, 95, 1000])
@pytest.mark.parametrize('warmup', [0.0, 0.1, 3])
def test_rises_to_the_full_rate_and_falls_to_zero(steps, warmup):
    found = [lr for lr, _ in rates(WarmupLinearLR(optimizer(), warmup=warmup, end=steps), steps)]
    count = min(round(warmup * steps) if warmup < 1 else warmup, steps)
    expected = [(s + 1) / count if s < count else (steps - s) / (steps - count) for s in range(steps)]
    assert found == pytest.approx(expected)
    assert max(found) == 1 and min(found) > 0


def test_the_heads_rate_is_a_multiple_at_every_step():
    assert all(head == pytest.approx(10 * encoder) for encoder, head in rates(WarmupLinearLR(optimizer(), end=20), 20))


@pytest.mark.parametrize('at', [1, 7, 20])
def test_resumes_at_its_step_and_follows_a_new_length(at):
    whole = rates(WarmupLinearLR(optimizer(), end=20), 20)
    first = WarmupLinearLR(optimizer(), end=20)
    rates(first, at)
    again = WarmupLinearLR(optimizer(), end=20)
    again.load_state_dict(first.state_dict())
    assert rates(again, 20 - at) == whole[at:]
    longer = WarmupLinearLR(optimizer(), end=40)
    longer.load_state_dict(first.state_dict())
    assert rates(longer, 40 - at) == rates(WarmupLinearLR(optimizer(), end=40), 40)[at:]


def test_counts_steps_only():
    with pytest.raises(KoviltError, match='by_epoch=False'):
        WarmupLinearLR(optimizer(), by_epoch=True, end=3)
    with pytest.raises(KoviltError, match='warmup is -1'):
        WarmupLinearLR(optimizer(), warmup=-1, end=3)
