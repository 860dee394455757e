from __future__ import annotations

import pytest

from kovilt.engine.loops import StepSampler


class Order:
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch


class Batches:
    """Batches of two of the five samples of an epoch, numbered by epoch."""

    def __init__(self):
        self.sampler = Order()

    def __len__(self):
        return 3

    def __iter__(self):
        samples = [self.sampler.epoch * 10 + i for i in range(5)]
        return (samples[i : i + 2] for i in range(0, 5, 2))


@pytest.mark.parametrize('start', range(8))
def test_any_start_continues_the_same_stream(start):
    whole = list(StepSampler(Batches(), 0, 8))
    assert whole == [[0, 1], [2, 3], [4], [10, 11], [12, 13], [14], [20, 21], [22, 23]]
    assert list(StepSampler(Batches(), start, 8)) == whole[start:]
    assert len(StepSampler(Batches(), start, 8)) == 8 - start
