"""Scores follow their definitions, intervals cover, and the exact test is exact."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from kovilt.evaluation.scoring import (
    answer_score,
    bootstrap_interval,
    mcnemar,
    most_frequent,
    record_answers,
    tolerant_score,
)


def by_definition(answer, truths):
    """Leave each person out in turn."""
    scores = []
    for left_out in range(len(truths)):
        others = [truth for person, truth in enumerate(truths) if person != left_out]
        scores.append(min(Fraction(others.count(answer), 3), 1))
    return float(sum(scores) / len(scores))


def test_the_official_rule_on_random_answers():
    draw = random.Random(0)
    seen = set()
    for _ in range(500):
        people = draw.choice((4, 5, 10))
        truths = draw.choices(['빨간색', '파란색', '검은색', '흰색'], weights=(6, 3, 2, 1), k=people)
        score = answer_score('빨간색', truths)
        assert score == pytest.approx(by_definition('빨간색', truths), abs=1e-12)
        seen.add((len(truths), truths.count('빨간색')))
    assert {(10, n) for n in range(2, 9)} <= seen


def test_ten_answers_by_how_many_agree():
    scores = [answer_score('네', ['네'] * n + ['예'] * (10 - n)) for n in range(11)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9] + [1] * 7)


def test_one_answer_is_exact_match_and_not_capped():
    assert answer_score('네', ['네']) == 1 and answer_score('예', ['네']) == 0
    assert answer_score('네', ['네', '네']) == 1 and answer_score('네', ['네', '네', '예']) == pytest.approx(2 / 3)


def test_tolerance_adds_up_people_who_write_differently():
    truths = ['2개', '두 개', '두개', '2 개'] + ['3개'] * 6
    assert answer_score('두 개', truths) == pytest.approx(0.3) and tolerant_score('두 개', truths) == 1
    assert tolerant_score('두 개가', truths) == 0


def test_human_answers_of_a_record():
    assert record_answers({'answer': ' 빨간  색'}) == ['빨간 색']
    assert record_answers({'answer': '흰색', 'answers': None}) == ['흰색']
    assert record_answers({'answer': '예', 'answers': ['네', '예']}) == ['네', '예']
    assert most_frequent(['네', '예', '예', '응']) == '예' and most_frequent(['응', '네']) == '응'


def test_an_interval_covers_the_truth_about_95_times_of_100():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.random(120) < 0.3, np.arange(120), resamples=200, seed=trial)
        inside += low <= 0.3 <= high
    assert 180 <= inside <= 199


def test_questions_that_share_images_tell_less():
    few = np.arange(40) % 2
    many, images = np.repeat(few, 9), np.repeat(np.arange(40), 9)
    assert bootstrap_interval(many, images) == pytest.approx(bootstrap_interval(few, np.arange(40)))
    low, high = bootstrap_interval(many, np.arange(360))
    wide_low, wide_high = bootstrap_interval(many, images)
    assert wide_high - wide_low > 2 * (high - low)


def test_an_interval_depends_on_neither_order_nor_the_run():
    values, images = np.arange(30) % 3, [f'{number % 11}.jpg' for number in range(30)]
    order = np.random.default_rng(1).permutation(30)
    shuffled = bootstrap_interval(values[order], [images[place] for place in order])
    assert shuffled == bootstrap_interval(values, images) == bootstrap_interval(values, images)


@pytest.mark.parametrize(('only_a', 'only_b'), [(0, 0), (0, 1), (1, 5), (5, 1), (10, 10), (3, 40), (300, 411)])
def test_mcnemar_is_the_binomial(only_a, only_b):
    total = only_a + only_b
    tail = sum(math.comb(total, k) for k in range(min(only_a, only_b) + 1))
    assert mcnemar(only_a, only_b) == pytest.approx(float(min(Fraction(2 * tail, 2**total), 1)), rel=1e-9)


def test_mcnemar_of_very_many_questions_is_a_number():
    assert 0 < mcnemar(49_700, 50_300) < 0.1 and mcnemar(0, 100_000) == 0


def test_random_cases_agree_with_mmpretrains_metric_over_leave_one_out_sets():
    """It scores min(n / 3, 1) of a list as it is, so the official score is its mean over the lists less one person."""
    reference = pytest.importorskip('mmpretrain.evaluation.metrics.vqa').VQAAcc()
    draw = random.Random(1)
    for _ in range(20):
        truths = draw.choices(['red', 'blue', 'black'], weights=(5, 3, 2), k=10)
        for person in range(10):
            others = truths[:person] + truths[person + 1 :]
            reference.process(None, [{'pred_answer': 'red', 'gt_answer': others, 'gt_answer_weight': [0.1] * 9}])
        found = reference.compute_metrics(reference.results)['acc']
        reference.results.clear()
        assert 100 * answer_score('red', truths) == pytest.approx(found)
