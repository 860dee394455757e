"""Precision, coverage and thresholds, against their definitions computed question by question."""

import numpy as np
import pytest

from kovilt.evaluation.selective import (
    area_under_risk_coverage,
    best_precision,
    choose_threshold,
    coverage_at_precision,
    risk_coverage,
)


def questions(seed: int, count: int = 200, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, many of them equal, and scores of which the likelier answers have better ones."""
    rng = np.random.default_rng(seed)
    scores = rng.random(count).round(decimals)
    return scores, np.where(rng.random(count) < scores, rng.choice([1.0, 0.6, 0.3], count), 0.0)


def precision_from(scores, correct, threshold):
    """The precision and the number of the answers of at least a probability."""
    passing = [right for score, right in zip(scores, correct, strict=True) if score >= threshold]
    return sum(passing) / len(passing), len(passing)


@pytest.mark.parametrize('decimals', [0, 1, 2, 9])
def test_the_curve_is_that_of_each_threshold(decimals):
    scores, correct = questions(decimals, decimals=decimals)
    curve = risk_coverage(scores, correct)
    assert curve.thresholds.tolist() == sorted({*scores.tolist()}, reverse=True)
    expected = [precision_from(scores, correct, one) for one in curve.thresholds]
    assert curve.precision == pytest.approx([precision for precision, _ in expected])
    assert curve.answered.tolist() == [answered for _, answered in expected]
    assert curve.coverage == pytest.approx(curve.answered / 200)
    area = np.mean([1 - precision_from(scores, correct, score)[0] for score in scores])
    assert area_under_risk_coverage(curve) == pytest.approx(area)
    for target in (0.3, 0.5, 0.7, 0.9, 0.99):
        reached = [answered for precision, answered in expected if precision >= target]
        assert coverage_at_precision(curve, target) == pytest.approx(max(reached, default=0) / 200)


def test_the_order_of_the_questions_decides_nothing():
    scores, correct = questions(0, decimals=1)
    order = np.random.default_rng(1).permutation(len(scores))
    one, other = risk_coverage(scores, correct), risk_coverage(scores[order], correct[order])
    assert one.answered.tolist() == other.answered.tolist() and one.precision == pytest.approx(other.precision)


def test_the_area_of_models_that_know_all_and_nothing():
    right = np.array([1.0] * 60 + [0.0] * 40)
    knows = area_under_risk_coverage(risk_coverage(np.linspace(1, 0, 100), right))
    equal = area_under_risk_coverage(risk_coverage(np.full(100, 0.5), right))
    opposite = area_under_risk_coverage(risk_coverage(np.linspace(0, 1, 100), right))
    assert knows == pytest.approx(sum(wrong / (60 + wrong) for wrong in range(1, 41)) / 100)
    assert equal == pytest.approx(0.4) and knows < equal < opposite
    assert area_under_risk_coverage(risk_coverage(np.linspace(0, 1, 5), np.ones(5))) == 0


@pytest.mark.parametrize('target', [0.3, 0.5, 0.6, 0.8])
def test_a_threshold_lets_as_many_answers_pass_as_the_precision_allows(target):
    scores, correct = questions(3)
    curve = risk_coverage(scores, correct)
    threshold = choose_threshold(curve, target, minimum=1)
    precision, answered = precision_from(scores, correct, threshold)
    assert precision >= target and answered / 200 == pytest.approx(coverage_at_precision(curve, target))
    assert threshold == 0 or np.abs(scores - threshold).min() > 0.004  # halfway, so that rounding decides nothing


def test_a_threshold_needs_enough_answers():
    scores, correct = np.linspace(1, 0.5, 50), np.array([1.0] * 15 + [0.0] * 35)
    curve = risk_coverage(scores, correct)
    assert choose_threshold(curve, 0.9, minimum=15) == pytest.approx((scores[15] + scores[16]) / 2)
    assert choose_threshold(curve, 0.9, minimum=20) is None
    assert best_precision(curve, minimum=20) == pytest.approx((15 / 20, 20 / 50))
    assert choose_threshold(curve, 0.3, minimum=20) == 0  # all pass
    assert choose_threshold(risk_coverage(scores[:5], correct[:5]), 0.9, minimum=20) is None
    assert best_precision(risk_coverage(scores[:5], correct[:5]), minimum=20) == (0, 0)


def test_questions_that_are_never_answered_lower_the_coverage_alone():
    scores, correct = questions(4)
    whole, part = risk_coverage(scores, correct), risk_coverage(scores, correct, questions=400)
    assert part.coverage == pytest.approx(whole.coverage / 2) and part.precision == pytest.approx(whole.precision)
    assert coverage_at_precision(risk_coverage(np.zeros(0), np.zeros(0), questions=3), 0.5) == 0
