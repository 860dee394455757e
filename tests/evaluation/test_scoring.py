"""Scores follow their definitions, intervals cover, and the exact test is exact."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from kovilt.evaluation.scoring import (
    answer_score,
    bootstrap_interval,
    ground_truth_answers,
    mcnemar_p,
    most_frequent,
    tolerant_score,
)


def by_definition(prediction, answers):
    """Leave each person out in turn."""
    scores = []
    for left_out in range(len(answers)):
        others = [other for person, other in enumerate(answers) if person != left_out]
        scores.append(min(Fraction(others.count(prediction), 3), 1))
    return float(sum(scores) / len(scores))


def test_the_official_rule_on_random_answers():
    rng = random.Random(0)
    seen = set()
    for _ in range(500):
        people = rng.choice((4, 5, 10))
        answers = rng.choices(['빨간색', '파란색', '검은색', '흰색'], weights=(6, 3, 2, 1), k=people)
        score = answer_score('빨간색', answers)
        assert score == pytest.approx(by_definition('빨간색', answers), abs=1e-12)
        seen.add((len(answers), answers.count('빨간색')))
    assert {(10, n) for n in range(2, 9)} <= seen


def test_ten_answers_by_how_many_agree():
    scores = [answer_score('네', ['네'] * n + ['예'] * (10 - n)) for n in range(11)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9] + [1] * 7)


def test_one_answer_is_exact_match_and_not_capped():
    assert answer_score('네', ['네']) == 1 and answer_score('예', ['네']) == 0
    assert answer_score('네', ['네', '네']) == 1 and answer_score('네', ['네', '네', '예']) == pytest.approx(2 / 3)


def test_tolerance_adds_up_people_who_write_differently():
    answers = ['2개', '두 개', '두개', '2 개'] + ['3개'] * 6
    assert answer_score('두 개', answers) == pytest.approx(0.3) and tolerant_score('두 개', answers) == 1
    assert tolerant_score('두 개가', answers) == 0


def test_answers_of_a_record():
    assert ground_truth_answers({'answer': ' 빨간  색'}) == ['빨간 색']
    assert ground_truth_answers({'answer': '흰색', 'answers': None}) == ['흰색']
    assert ground_truth_answers({'answer': '예', 'answers': ['네', '예']}) == ['네', '예']
    assert most_frequent(['네', '예', '예', '응']) == '예' and most_frequent(['응', '네']) == '응'


def test_the_interval_is_the_percentile_bootstrap_of_images():
    """Against a loop that resamples images, with all their questions, one resample at a time."""
    rng = np.random.default_rng(3)
    images, values = rng.integers(25, size=200), rng.random(200)
    questions_of = [np.flatnonzero(images == image) for image in np.unique(images)]
    resampler, means = np.random.default_rng(7), []
    for _ in range(1000):
        drawn = resampler.integers(len(questions_of), size=len(questions_of))
        means.append(values[np.concatenate([questions_of[image] for image in drawn])].mean())
    assert bootstrap_interval(values, images, seed=7) == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_the_interval_of_a_single_image_is_its_mean():
    assert bootstrap_interval(np.array([1, 0, 0]), ['a.jpg'] * 3) == (1 / 3, 1 / 3)


def test_an_interval_covers_the_true_value_about_95_times_of_100():
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
    assert mcnemar_p(only_a, only_b) == pytest.approx(float(min(Fraction(2 * tail, 2**total), 1)), rel=1e-9)


def test_mcnemar_of_very_many_questions_is_a_number():
    assert 0 < mcnemar_p(49_700, 50_300) < 0.1 and mcnemar_p(0, 100_000) == 0


def test_random_cases_agree_with_mmpretrains_metric_over_leave_one_out_sets():
    """It scores min(n / 3, 1) of a list as it is, so the official score is its mean over the lists less one person."""
    reference = pytest.importorskip('mmpretrain.evaluation.metrics.vqa').VQAAcc()
    rng = random.Random(1)
    for _ in range(20):
        answers = rng.choices(['red', 'blue', 'black'], weights=(5, 3, 2), k=10)
        for person in range(10):
            others = answers[:person] + answers[person + 1 :]
            reference.process(None, [{'pred_answer': 'red', 'gt_answer': others, 'gt_answer_weight': [0.1] * 9}])
        found = reference.compute_metrics(reference.results)['acc']
        reference.results.clear()
        assert 100 * answer_score('red', answers) == pytest.approx(found)


def test_the_weight_of_an_answer_is_its_score():
    record = {'answer': '빨간색', 'answers': ['빨간색', '빨강', '분홍 색'], 'answer_weights': [0.5, 0.3, 0.2]}
    answers = ground_truth_answers(record)
    assert [answer_score(one, answers) for one in ('빨간색', '빨강', '파란색')] == [0.5, 0.3, 0]
    assert tolerant_score('분홍색', answers) == 0.2 and answer_score('분홍색', answers) == 0
    assert most_frequent(answers) == '빨간색'
    assert tolerant_score('두 개', {'두 개': 0.8, '2개': 0.7}) == 1  # equal but for spelling
