import numpy as np
import pytest

from kovilt.evaluation.calibration import expected_calibration_error, reliability_bins


def test_probabilities_that_are_right_have_no_error():
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    bins = reliability_bins(scores, rng.random(len(scores)) < scores)
    assert len(bins) == 15 and sum(one.questions for one in bins) == len(scores)
    assert expected_calibration_error(bins) < 0.005
    assert all(one.low < one.confidence <= one.high for one in bins)


def test_the_error_is_the_weighted_distance_of_confidence_and_accuracy():
    bins = reliability_bins(np.array([1.0, 1.0, 0.0, 0.55]), np.array([0.0, 1.0, 0.0, 1.0]), bins=10)
    assert [(one.low, one.questions, one.accuracy) for one in bins] == [(0.0, 1, 0.0), (0.5, 1, 1.0), (0.9, 2, 0.5)]
    assert expected_calibration_error(bins) == pytest.approx((0 + 0.45 + 2 * 0.5) / 4)
    assert expected_calibration_error([]) == 0
