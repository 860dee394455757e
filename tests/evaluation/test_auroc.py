"""AUROC is the share of pairs in the right order, whatever the ties, and its interval covers what is drawn."""

import numpy as np
import pytest

from kovilt.evaluation.auroc import auroc, auroc_interval


@pytest.mark.parametrize('levels', [2, 5, 1000])
@pytest.mark.parametrize('seed', range(3))
def test_it_is_the_share_of_pairs_in_the_right_order(levels, seed):
    rng = np.random.default_rng(seed)
    signal, positive = rng.integers(0, levels, 60) / levels - 0.3, rng.random(60) < 0.3
    pairs = [(a > b) + (a == b) / 2 for a in signal[positive] for b in signal[~positive]]
    assert auroc(signal, positive) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(-signal, positive) == pytest.approx(1 - np.mean(pairs), abs=1e-12)
    assert auroc(np.exp(signal), positive) == auroc(signal, positive)  # ranks alone count


def test_what_tells_all_or_nothing():
    positive = np.array([False, True, True])
    assert auroc(np.array([0.1, 0.2, 0.9]), positive) == 1
    assert auroc(np.array([0.5, 0.5, 0.5]), positive) == 0.5
    assert auroc(np.array([-np.inf, np.inf, 3.0]), positive) == 1


@pytest.mark.parametrize(
    ('signal', 'positive'), [([0.1, 0.2], [True, True]), ([0.1, 0.2], [False, False]), ([0.1, np.nan], [True, False])]
)
def test_what_has_no_auroc_is_refused(signal, positive):
    for compute in (auroc, lambda *given: auroc_interval(*given, [0, 1])):
        with pytest.raises(ValueError, match='both kinds|not a number'):
            compute(np.array(signal), np.array(positive))


def test_the_interval_covers_the_true_value_and_depends_on_groups():
    """Normal signals whose means are one apart: the AUROC is 0.76. Copies of a sample in its group tell nothing new."""
    covered, widths = 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        positive = np.arange(80) < 40
        signal = rng.normal(positive.astype(float))
        low, high = auroc_interval(signal, positive, np.arange(80), resamples=200)
        assert low <= auroc(signal, positive) <= high
        covered += low <= 0.7602 <= high
        fourfold = [np.repeat(values, 4) for values in (signal, positive, np.arange(80))]
        again = auroc_interval(*fourfold, resamples=200)
        assert again == pytest.approx((low, high), abs=1e-9)
        widths.append(high - low)
        assert np.diff(auroc_interval(*fourfold[:2], np.arange(320), resamples=200)) < 0.75 * widths[-1]
    assert covered >= 25
