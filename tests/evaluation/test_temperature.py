"""Temperature scaling finds the temperature that made the labels, and is measured on images that it has not seen."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from kovilt.evaluation.scoring import answer_score
from kovilt.evaluation.temperature import (
    TEMPERATURES,
    CalibrationData,
    ScoredAnswer,
    error_of,
    fit_calibration,
    log_confidences,
    target_gap,
)

CLASSES = {str(number): number for number in range(12)}


def scored(row, scores, answers, image='', predicted_is_abstention=False):
    best = str(int(scores.argmax()))
    correct = answer_score(best, answers)
    gap = target_gap(scores, CLASSES, answers)
    return ScoredAnswer(row, image or f'{row // 4}.jpg', correct, predicted_is_abstention, gap, log_confidences(scores))


def sampled(temperature: float, count: int = 2000, seed: int = 0) -> tuple[np.ndarray, list[list[str]]]:
    """Scores, and answers that are as frequent as the softmax at a temperature says."""
    rng = np.random.default_rng(seed)
    scores = (3 * rng.standard_normal((count, 12))).astype(np.float32)
    probabilities = np.exp(log_softmax(scores / temperature, axis=1))
    labels = [rng.choice(12, p=row / row.sum()) for row in probabilities.astype(float)]
    return scores, [[str(label)] for label in labels]


def data_of(scores, answers):
    return CalibrationData([scored(row, one, own) for row, (one, own) in enumerate(zip(scores, answers, strict=True))])


def loss_at(temperature, scores, answers):
    """The mean cross-entropy with the answers that are classes, from all scores."""
    targets = np.zeros(scores.shape)
    for row, own in enumerate(answers):
        for answer in {*own} & {*CLASSES}:
            targets[row, CLASSES[answer]] = answer_score(answer, own)
    known = targets.any(axis=1)
    losses = -(targets * log_softmax(scores.astype(float) / temperature, axis=1)).sum(axis=1)
    return (losses[known] / targets[known].sum(axis=1)).mean()


def test_few_numbers_hold_the_probabilities_at_every_temperature():
    scores, answers = sampled(1.0, 50)
    data = data_of(scores, answers)
    assert data.log_confidences.shape == (50, len(TEMPERATURES)) and data.log_confidences.dtype == np.float32
    for temperature in (0.06, 0.3, 0.777, 1.0, 1.3, 4.9, 19.0):
        expected = np.exp(log_softmax(scores.astype(float) / temperature, axis=1).max(axis=1))
        assert data.confidences(temperature) == pytest.approx(expected, abs=1e-5)
    assert log_confidences(np.ones(1)).tolist() == [0.0] * len(TEMPERATURES)  # a single option


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.5])
def test_the_temperature_is_that_of_the_labels_and_of_a_direct_search(temperature):
    scores, answers = sampled(temperature)
    answers[:3] = [['out of vocabulary'], ['3', '3', '3', 'out', '5'], {'3': 0.7, 'out': 0.2, '5': 0.1}]
    data = data_of(scores, answers)
    found = fit_calibration(data)
    assert found.temperature == pytest.approx(temperature, rel=0.08) and data.num_labelled == 1999
    direct = minimize_scalar(lambda log: loss_at(math.exp(log), scores, answers), bounds=(-2, 2), method='bounded')
    assert found.temperature == pytest.approx(math.exp(direct.x), rel=1e-3)
    assert found.ece_after < 0.03 and (temperature == 1 or found.ece_before > 3 * found.ece_after)
    assert found.threshold == 0 and found.answered == 1 and found.precision == pytest.approx(data.correct.mean())


def test_a_question_whose_answer_the_model_cannot_give_is_wrong_and_has_no_label():
    scores, answers = sampled(1.0, 200)
    unknown = [['none of them']] * 200
    both = data_of(np.concatenate([scores, scores]), answers + unknown)
    alone = data_of(scores, answers)
    everything = np.ones(400, dtype=bool)
    assert both.fit_temperature(everything) == pytest.approx(alone.fit_temperature(everything[:200]))
    assert both.correct.mean() == alone.correct.mean() / 2
    assert fit_calibration(both).ece_after > fit_calibration(alone).ece_after + 0.1
    assert data_of(scores, unknown).fit_temperature(everything[:200]) == 1


def test_halves_are_of_images_and_give_what_the_fit_gives_where_there_is_much_data():
    data = data_of(*sampled(2.0))
    first, second = data.halves()
    assert not {*data.images[first]} & {*data.images[second]} and (first ^ second).all()
    assert abs(first.mean() - 0.5) < 0.01
    found = fit_calibration(data, 0.6)
    assert found.held_out.ece == pytest.approx(found.ece_after, abs=0.02)
    assert found.held_out.precision == pytest.approx(found.precision, abs=0.04)
    assert found.held_out.precision_low < found.held_out.precision < found.held_out.precision_high
    assert found.held_out.answered == pytest.approx(found.answered, abs=0.08)
    one_image = data_of(*sampled(2.0, 4))
    assert one_image.halves() == [] and fit_calibration(one_image).held_out is None


def test_a_fit_flatters_itself_on_its_own_questions():
    """The mean over small sets; so the figures that are told come from images that a fit has not seen."""
    fits = [fit_calibration(data_of(*sampled(1.5, 120, seed)), 0.75) for seed in range(20)]
    fits = [one for one in fits if one.threshold is not None and one.held_out.answered]
    assert len(fits) > 10
    assert np.mean([one.precision for one in fits]) >= 0.75
    assert np.mean([one.held_out.precision for one in fits]) < np.mean([one.precision for one in fits]) - 0.01


def test_a_prediction_that_is_the_abstention_is_no_answer():
    scores, answers = sampled(1.0, 400)
    own = [
        scored(row, one, text, predicted_is_abstention=int(one.argmax()) == 0)
        for row, (one, text) in enumerate(zip(scores, answers, strict=True))
    ]
    found, data = fit_calibration(CalibrationData(own), 0.7), CalibrationData(own)
    passes = (data.confidences(found.temperature) >= found.threshold) & ~data.is_abstention
    assert data.is_abstention.any() and found.answered == passes.mean()
    assert found.precision == data.correct[passes].mean() >= 0.7
    assert fit_calibration(CalibrationData(own)).answered == (~data.is_abstention).mean()  # without a threshold, too


def test_where_no_threshold_reaches_the_precision_the_best_one_is_told():
    found = fit_calibration(data_of(*sampled(20.0, 400)), 0.99)
    assert found.threshold is None and found.answered == found.precision == found.held_out.answered == 0
    assert 0 < found.best[0] < 0.99 and found.best[1] >= 20 / 400


def test_the_error_is_that_of_its_bins():
    assert error_of(np.array([0.9, 0.9]), np.array([1.0, 0.0])) == pytest.approx(0.4)
