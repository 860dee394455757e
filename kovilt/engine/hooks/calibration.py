"""Applies the calibration of a model folder to a test, or fits a new one on the questions of the test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.datasets.korean import normalize_korean
from kovilt.engine.checkpoints import unwrap_model
from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import answer_score, ground_truth_answers
from kovilt.evaluation.selective import MIN_ANSWERED
from kovilt.evaluation.temperature import (
    TEMPERATURES,
    CalibrationData,
    CalibrationFit,
    ScoredAnswer,
    error_of,
    fit_calibration,
    log_confidences,
    target_gap,
)
from kovilt.files import read_json
from kovilt.models.answering import AnsweringModel
from kovilt.weights.calibration import ABSTENTION, Calibration
from kovilt.weights.folder_info import INFO

MIN_QUESTIONS = 100  # with fewer a fit is told to be uncertain
_WORSE = 0.01  # growth of the calibration error that is told


class CalibrationHook(Hook):
    """Lets a calibrated model folder be tested with its temperature, or fits a calibration; tells what it gives.

    A fit is made with temperature 1, whatever the folder has. The scores of a question are reduced to a few numbers at
    once, so that memory does not grow with the answer vocabulary.

    Args:
        source: what is tested; only a model folder has a calibration.
        is_fit: fit a calibration on the questions of the test.
        precision_target: the precision, 0 to 1, for which a threshold is fitted, too; None = none is.
        abstention: what is answered below the threshold.

    Attributes:
        calibration: the one that was applied or, on rank 0, fitted; None = there is none.
        result: the values and figures of the calibration for metrics.json, shares in percent; empty = there is none.
        failure: why none could be fitted, in one line.
    """

    priority = 'LOWEST'

    def __init__(
        self, source: Path, *, is_fit: bool, precision_target: float | None = None, abstention: str = ABSTENTION
    ) -> None:
        self.source, self.is_fit, self.precision_target, self.abstention = source, is_fit, precision_target, abstention
        self.calibration: Calibration | None = None
        self.result: dict[str, Any] = {}
        self.failure = ''
        self._temperatures = TEMPERATURES
        self._classes: dict[str, int] = {}  # of an answer head
        self._answers: list[ScoredAnswer] = []

    def before_test(self, runner: Runner) -> None:
        """Set the temperature of the model, whose weights have been loaded and whose kovilt.json has been checked."""
        model = unwrap_model(runner.model)
        if not isinstance(model, AnsweringModel):
            if self.is_fit:
                raise KoviltError(f'{self.source}: a {type(model).__name__} answers no questions to be calibrated on')
            return
        if not self.is_fit and (self.source / INFO).is_file():
            self.calibration = Calibration.from_info(read_json(self.source / INFO))
        if self.calibration is not None:
            model.temperature = self.calibration.temperature
            self._temperatures = np.array([1.0, model.temperature])
            self.abstention = self.calibration.abstention
        model.keeps_scores = self.is_fit or self.calibration is not None
        self._classes = _places(getattr(model, 'answers', ()))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[dict[str, Any]] | None = None
    ) -> None:
        for prediction in outputs or ():
            if self._classes and prediction.get('record', {}).get('options'):
                if self.is_fit:
                    raise KoviltError(
                        f'{self.source}: these questions bring their options, among which a model with an answer head '
                        'never abstains; calibrate it on open questions'
                    )
            elif 'scores' in prediction:
                self._answers.append(self._reduce(prediction))

    def _reduce(self, prediction: Mapping[str, Any]) -> ScoredAnswer:
        record, scores = prediction['record'], prediction['scores']
        predicted, answers = normalize_korean(prediction['answer']), ground_truth_answers(record)
        is_broken = bool(record.get('broken', False))
        classes = self._classes or _places(record.get('options') or ())
        return ScoredAnswer(
            row=int(record['row']),
            image=str(record.get('image') or record['row']),
            correct=0.0 if is_broken else answer_score(predicted, answers),
            is_abstention=predicted == normalize_korean(self.abstention),
            gap=math.nan if is_broken else target_gap(scores, classes, answers),
            log_confidences=log_confidences(scores, self._temperatures),
        )

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        if not self.is_fit and self.calibration is None:
            return
        found = collect_results(self._answers, len(runner.test_dataloader.dataset), device='cpu')
        self._answers = []
        if found is None:  # not rank 0
            return
        by_row = {one.row: one for one in found}  # a sampler may repeat questions
        answers = [by_row[row] for row in sorted(by_row)]
        if self.is_fit:
            self._fit(runner, answers)
        elif answers:
            self._measure(runner, answers)

    def _fit(self, runner: Runner, answers: Sequence[ScoredAnswer]) -> None:
        if all(math.isnan(one.gap) for one in answers):
            count = f'none of {len(answers):,} questions has an answer that this model can give'
            self.failure = f'{self.source}: {count}, so nothing can be calibrated'
            return
        data = CalibrationData(answers)
        found = fit_calibration(data, self.precision_target)
        for text in _doubts(data, found):
            runner.logger.warning(text)
        if found.threshold is None:
            best, coverage = found.best
            self.failure = (
                f'{self.source}: no threshold reaches a precision of {100 * (self.precision_target or 0):g} %; the '
                f'best that lets {MIN_ANSWERED} questions pass has {100 * best:.1f} %, with {100 * coverage:.1f} % of '
                'the questions answered. Nothing is stored: ask for less, or for the temperature alone by --calibrate'
            )
        else:
            self.calibration = Calibration(
                temperature=found.temperature,
                threshold=found.threshold,
                precision_target=self.precision_target,
                abstention=self.abstention,
                questions=len(data),
            )
        held = found.held_out
        self.result = {
            'temperature': found.temperature,
            'threshold': found.threshold,
            'precision_target': self.precision_target,
            'abstention': self.abstention,
            'questions': len(data),
            'ece_before': 100 * found.ece_before,
            'ece_after': 100 * (held.ece if held else found.ece_after),
            'answered': 100 * found.answered,
            'precision': 100 * found.precision,
            'held_out': {name: 100 * value for name, value in held._asdict().items()} if held else None,
        }
        runner.logger.info(describe_fit(self.result))

    def _measure(self, runner: Runner, answers: Sequence[ScoredAnswer]) -> None:
        calibration = self.calibration
        assert calibration is not None
        before, after = np.exp(np.stack([one.log_confidences for one in answers]).astype(float)).T
        correct = np.array([one.correct for one in answers])
        passes = (after >= calibration.threshold) & ~np.array([one.is_abstention for one in answers])
        self.result = {
            **calibration.to_json(),
            'ece_before': 100 * error_of(before, correct),
            'ece_after': 100 * error_of(after, correct),
            'answered': 100 * float(passes.mean()),
            'precision': 100 * float(correct[passes].mean()) if passes.any() else 0.0,
        }
        runner.logger.info(describe_measurement(self.result, int(passes.sum()), len(answers)))


def _places(answers: Sequence[str]) -> dict[str, int]:
    """Normalized answer -> its place; of equal ones the first."""
    places: dict[str, int] = {}
    for place, answer in enumerate(answers):
        places.setdefault(normalize_korean(answer), place)
    return places


def _doubts(data: CalibrationData, found: CalibrationFit) -> list[str]:
    """Why a fit may not hold."""
    texts = []
    if data.num_labelled < MIN_QUESTIONS:
        texts.append(
            f'calibration: only {data.num_labelled:,} questions have an answer that the model can give; with fewer '
            f'than {MIN_QUESTIONS} temperature and threshold depend on single questions: take more'
        )
    if not TEMPERATURES[1] < found.temperature < TEMPERATURES[-2]:
        texts.append(
            f'calibration: the temperature {found.temperature:.3g} is at the end of what is tried, '
            f'{TEMPERATURES[0]:.2f} to {TEMPERATURES[-1]:.1f}: all answers are right, or scores say nothing about them'
        )
    error = found.held_out.ece if found.held_out else found.ece_after
    if error > found.ece_before + _WORSE:
        texts.append(
            f'calibration: the calibration error grows from {100 * found.ece_before:.1f} to {100 * error:.1f} %: '
            f'{len(data) - data.num_labelled:,} of {len(data):,} questions have an answer that the model cannot give, '
            'and a temperature knows nothing of these'
        )
    if found.held_out is None:
        texts.append('calibration: all questions are about one image, so nothing is left to measure it on')
    return texts


def describe_fit(result: Mapping[str, Any]) -> str:
    """The result of a fit in one or two lines."""
    held = result['held_out']
    where = 'on images that the fit has not seen' if held else 'on the questions of the fit'
    lines = [
        f'calibration: temperature {result["temperature"]:.3f}, from {result["questions"]:,} questions; expected '
        f'calibration error {result["ece_before"]:.2f} % before and {result["ece_after"]:.2f} % after, {where}'
    ]
    if result['threshold'] is not None and result['precision_target'] is not None:
        line = (
            f'for a precision of {100 * result["precision_target"]:g} % it answers {result["abstention"]!r} below a '
            f'probability of {result["threshold"]:.4f}: {result["answered"]:.1f} % of these questions are answered, '
            f'{result["precision"]:.1f} % of them correctly'
        )
        if not result['threshold']:
            line = f'every answer passes: {result["precision"]:.1f} % of them are correct'
        if held:
            line += (
                f'; on images that the fit has not seen {held["answered"]:.1f} % and {held["precision"]:.1f} % '
                f'(95 % interval {held["precision_low"]:.1f} to {held["precision_high"]:.1f})'
            )
        lines.append(line)
    return '\n'.join(lines)


def describe_measurement(result: Mapping[str, Any], answered: int, questions: int) -> str:
    """What a stored calibration gives on the questions of a test, in one or two lines."""
    lines = [
        f'calibrated with temperature {result["temperature"]:.3f}: expected calibration error '
        f'{result["ece_before"]:.2f} % without and {result["ece_after"]:.2f} % with it'
    ]
    if result['threshold']:
        lines.append(
            f'below a probability of {result["threshold"]:.4f} it answers {result["abstention"]!r}: {answered:,} of '
            f'{questions:,} questions ({result["answered"]:.1f} %) are answered, {result["precision"]:.1f} % of them '
            'correctly'
        )
    return '\n'.join(lines)
