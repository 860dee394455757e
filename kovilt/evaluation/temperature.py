"""Temperature scaling: all scores are divided by one number before the softmax, so that probabilities tell how often
answers are right. It changes no answer (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kovilt.evaluation.calibration import expected_calibration_error, reliability_bins
from kovilt.evaluation.scoring import GroundTruth, answer_score, bootstrap_interval
from kovilt.evaluation.selective import best_precision, choose_threshold, risk_coverage

# From 1/20 to 20: where the probabilities of each question are computed. Others are interpolated.
_LOG_TEMPERATURES = np.linspace(-3.0, 3.0, 61)
TEMPERATURES = np.exp(_LOG_TEMPERATURES)
_NEAR = 3  # temperatures on each side, through which a polynomial goes
_SEED = 0  # of the halves


class ScoredAnswer(NamedTuple):
    """What a calibration needs of a question: far less than its scores for all answers.

    correct: the score of the model's answer, 0 to 1; 0 where the image is broken.
    is_abstention: the model's answer is itself the text that is answered in place of an unsure answer.
    gap: as `target_gap` gives it; also NaN where the image is broken.
    log_confidences: as the function of this name gives it.
    """

    row: int
    image: str
    correct: float
    is_abstention: bool
    gap: float
    log_confidences: np.ndarray


def log_confidences(scores: np.ndarray, temperatures: np.ndarray = TEMPERATURES) -> np.ndarray:
    """The logarithm of the probability of the best answer at each temperature, float32 (T,).

    scores (C,): of one question, before the softmax.
    """
    below = (scores - scores.max()).astype(np.float32)
    return -np.log(np.exp(below / temperatures.astype(np.float32)[:, None]).sum(axis=1))


def target_gap(scores: np.ndarray, classes: Mapping[str, int], answers: GroundTruth) -> float:
    """How far the score of the correct answer lies below the best one; NaN if the model cannot give it.

    Where there are several answers it is the mean over them, weighted by the `answer_score` of each. The cross-entropy
    at a temperature is then `gap / temperature - log_confidence`.

    Args:
        scores: (C,), before the softmax.
        classes: normalized answer -> its place in `scores`.
        answers: the ground truth, normalized.
    """
    weights = {classes[answer]: answer_score(answer, answers) for answer in set(answers) if answer in classes}
    total = sum(weights.values())
    if not total:
        return math.nan
    return float(sum(weight * (scores.max() - scores[label]) for label, weight in weights.items()) / total)


class HeldOut(NamedTuple):
    """What a calibration gives on images that it was not fitted on; shares from 0 to 1.

    ece: expected calibration error. answered: share of the questions. precision: of those, with its 95 % interval.
    """

    ece: float
    answered: float
    precision: float
    precision_low: float
    precision_high: float


class CalibrationFit(NamedTuple):
    """A temperature and a threshold, and what they give on the questions of the fit; shares from 0 to 1.

    threshold: 0 = every answer passes; None = no threshold reaches the precision that is wanted.
    ece_before, ece_after: expected calibration error at temperature 1 and at the fitted one.
    answered, precision: share of the questions whose answer passes, and how many of these are right.
    best: the best precision that a threshold reaches, and the share of the questions that then pass.
    held_out: None where all questions are about one image.
    """

    temperature: float
    threshold: float | None
    ece_before: float
    ece_after: float
    answered: float
    precision: float
    best: tuple[float, float]
    held_out: HeldOut | None


class CalibrationData:
    """The answers of N questions as arrays, from which calibrations are fitted.

    Args:
        answers: with the `log_confidences` of TEMPERATURES; each question once.
    """

    def __init__(self, answers: Sequence[ScoredAnswer]) -> None:
        self.images = np.array([one.image for one in answers])
        self.correct = np.array([one.correct for one in answers], dtype=float)
        self.is_abstention = np.array([one.is_abstention for one in answers], dtype=bool)
        self.gaps = np.array([one.gap for one in answers], dtype=float)
        self.log_confidences = np.stack([one.log_confidences for one in answers])  # float32 (N, T)

    def __len__(self) -> int:
        return len(self.correct)

    @property
    def num_labelled(self) -> int:
        """Questions whose correct answer the model can give."""
        return int(np.isfinite(self.gaps).sum())

    def confidences(self, temperature: float) -> np.ndarray:
        """The probabilities of the answers at a temperature, (N,)."""
        from scipy.interpolate import BarycentricInterpolator

        place = math.log(temperature)
        middle = int(np.abs(_LOG_TEMPERATURES - place).argmin())
        first = min(max(middle - _NEAR, 0), len(_LOG_TEMPERATURES) - 2 * _NEAR - 1)
        near = slice(first, first + 2 * _NEAR + 1)
        weights = BarycentricInterpolator(_LOG_TEMPERATURES[near], np.eye(2 * _NEAR + 1))(place)  # of each near one
        return np.exp(np.minimum(self.log_confidences[:, near] @ weights, 0.0))

    def fit_temperature(self, own: np.ndarray) -> float:
        """The temperature with the least mean cross-entropy of the questions `own`, bool (N,).

        Questions whose answer the model cannot give have no cross-entropy; without others the temperature is 1.
        """
        from scipy.interpolate import CubicSpline
        from scipy.optimize import minimize_scalar

        own = own & np.isfinite(self.gaps)
        if not own.any():
            return 1.0
        losses = self.gaps[own].mean() / TEMPERATURES - self.log_confidences[own].mean(axis=0, dtype=float)  # (T,)
        least = int(losses.argmin())
        ends = _LOG_TEMPERATURES[max(least - 1, 0)], _LOG_TEMPERATURES[min(least + 1, len(losses) - 1)]
        found = minimize_scalar(CubicSpline(_LOG_TEMPERATURES, losses), bounds=ends, method='bounded')
        return math.exp(float(found.x))

    def halves(self) -> list[np.ndarray]:
        """Which questions belong to either half of the images, bool (N,) each; nothing if there is one image."""
        images, image = np.unique(self.images, return_inverse=True)
        if len(images) < 2:
            return []
        is_first = np.random.default_rng(_SEED).permutation(len(images)) % 2 == 0
        return [is_first[image], ~is_first[image]]


def fit_calibration(data: CalibrationData, target: float | None = None) -> CalibrationFit:
    """Fit a temperature and, for a precision that is wanted, a threshold, on all questions.

    On its own questions a fit looks better than it is. So the same is also fitted on each half of the images and
    measured on the other half (two-fold cross-fitting): `held_out`. Halves are of images, since questions about one
    image are not independent.

    Args:
        target: the precision, 0 to 1; None = every answer passes.
    """
    whole = np.ones(len(data), dtype=bool)
    temperature = data.fit_temperature(whole)
    confidences = data.confidences(temperature)
    threshold, best = _fit_threshold(data, confidences, whole, target)
    passes = _passes(data, confidences, threshold)
    return CalibrationFit(
        temperature=temperature,
        threshold=threshold,
        ece_before=error_of(data.confidences(1.0), data.correct),
        ece_after=error_of(confidences, data.correct),
        answered=float(passes.mean()),
        precision=float(data.correct[passes].mean()) if passes.any() else 0.0,
        best=best,
        held_out=_cross_fit(data, target),
    )


def _cross_fit(data: CalibrationData, target: float | None) -> HeldOut | None:
    halves = data.halves()
    if not halves:
        return None
    confidences, passes = np.zeros(len(data)), np.zeros(len(data), dtype=bool)
    for fitted, measured in (halves, halves[::-1]):
        found = data.confidences(data.fit_temperature(fitted))
        threshold, _ = _fit_threshold(data, found, fitted, target)
        confidences[measured] = found[measured]
        passes[measured] = _passes(data, found, threshold)[measured]
    error, answered = error_of(confidences, data.correct), float(passes.mean())
    if not passes.any():
        return HeldOut(error, answered, 0.0, 0.0, 0.0)
    interval = bootstrap_interval(data.correct[passes], data.images[passes])
    return HeldOut(error, answered, float(data.correct[passes].mean()), *interval)


def _fit_threshold(
    data: CalibrationData, confidences: np.ndarray, own: np.ndarray, target: float | None
) -> tuple[float | None, tuple[float, float]]:
    """The threshold for a precision on the questions `own`, and the best precision of any with its coverage.

    A prediction that is itself the abstention answers nothing, whatever its probability, and takes no part.
    """
    answers = own & ~data.is_abstention
    curve = risk_coverage(confidences[answers], data.correct[answers], questions=int(own.sum()))
    return (0.0 if target is None else choose_threshold(curve, target)), best_precision(curve)


def _passes(data: CalibrationData, confidences: np.ndarray, threshold: float | None) -> np.ndarray:
    """Which questions are answered, bool (N,)."""
    return (confidences >= (math.inf if threshold is None else threshold)) & ~data.is_abstention


def error_of(confidences: np.ndarray, correct: np.ndarray) -> float:
    """The expected calibration error of N questions, 0 to 1."""
    return expected_calibration_error(reliability_bins(confidences, correct))
