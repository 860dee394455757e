"""Random numbers that belong to a sample."""

import torch

from kovilt.modules.rng import uniform

SEEDS = torch.arange(2000) * 7919


def test_a_number_depends_on_seed_stream_and_position_alone():
    long, short = uniform(SEEDS, 12, stream=1), uniform(SEEDS[5:7], 4, stream=1)
    assert torch.equal(long[5:7, :4], short)
    assert not torch.equal(long, uniform(SEEDS, 12, stream=2))


def test_numbers_are_uniform_and_independent():
    numbers = uniform(SEEDS, 50, stream=3)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.005 and abs(numbers.var() - 1 / 12) < 0.002  # 100,000 numbers: five sigma
    counts = torch.histc(numbers.float(), bins=20, min=0, max=1)
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi-square of 19: p = 0.001
    correlation = torch.corrcoef(numbers.T)  # of one position with another
    assert (correlation - torch.eye(50)).abs().max() < 0.1


def test_neighbouring_seeds_share_nothing():
    numbers = uniform(torch.arange(1000), 1, stream=0)[:, 0]
    assert torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1].abs() < 0.1
