"""The part of a report that is about probabilities: how far they hold, and what they are worth for abstaining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kovilt.evaluation.breakdown import Prediction, column
from kovilt.evaluation.calibration import NUM_BINS, expected_calibration_error, reliability_bins
from kovilt.evaluation.selective import (
    RiskCoverage,
    area_under_risk_coverage,
    coverage_at_precision,
    risk_coverage,
)
from kovilt.evaluation.vqa import PRECISIONS
from kovilt.visualization.reliability import draw_reliability, draw_risk_coverage
from kovilt.visualization.report import Block, Figure, FigureRow, Paragraph, Table, data_url

_AS_SURE_AS_RIGHT = 1.0  # points between the mean probability and the accuracy
_MAX_POINTS = 300  # of the curve in the page
_STEPS = tuple(range(10, 101, 10))  # percent of the questions, in the table of the curve


def calibration_blocks(predictions: Sequence[Prediction], calibration: Mapping[str, Any] | None = None) -> list[Block]:
    """The reliability diagram and the risk-coverage curve, with their numbers.

    Args:
        calibration: the part of metrics.json, if the model was tested with a calibration or one was fitted.
    """
    scores, correct = column(predictions, 'score'), column(predictions, 'correct')
    bins = reliability_bins(scores, correct)
    ece = expected_calibration_error(bins)
    confidence, accuracy = 100 * scores.mean(), 100 * correct.mean()
    verdict = 'too sure' if confidence > accuracy else 'not sure enough'
    if abs(confidence - accuracy) < _AS_SURE_AS_RIGHT:
        verdict = 'about as sure as it is right'
    text = (
        f'Expected calibration error (ECE, {NUM_BINS} bins): {100 * ece:.1f} %. Mean probability of the answers '
        f'{confidence:.1f} %, accuracy {accuracy:.1f} %: on the whole the model is {verdict}.'
    )
    curve = risk_coverage(scores, correct)
    aurc = area_under_risk_coverage(curve)
    shares = [f'{100 * coverage_at_precision(curve, one / 100):.1f} % with {one} %' for one in PRECISIONS]
    surest = (
        f'The share of the questions that it can answer, the surest ones, with a precision: {", ".join(shares)}. Area '
        f'under the risk-coverage curve (AURC): {100 * aurc:.2f} %.'
    )
    figures = [
        Figure(
            data_url(draw_reliability(bins, ece), 'svg+xml'),
            'How often answers of a probability are right; dashed: as often as the probability says.',
            f'Reliability diagram; the first table below has its numbers. ECE {100 * ece:.1f} %',
        ),
        Figure(
            data_url(draw_risk_coverage(*_points(curve), aurc, 1 - float(correct.mean())), 'svg+xml'),
            'Wrong answers among the surest questions; dashed: if probabilities said nothing.',
            f'Risk-coverage curve; the second table below has its numbers. AURC {100 * aurc:.2f} %',
        ),
    ]
    rows = [
        [f'{one.low:.2f} to {one.high:.2f}', f'{one.questions:,}', 100 * one.confidence, 100 * one.accuracy]
        for one in bins
    ]
    return [
        Paragraph(text),
        *([Paragraph(describe_calibration(calibration))] if calibration else []),
        Paragraph(surest),
        FigureRow(figures, width=26),
        Table(['probability', 'questions', 'mean probability, %', 'accuracy, %'], rows),
        _curve_table(curve),
    ]


def _points(curve: RiskCoverage) -> tuple[list[float], list[float]]:
    """Coverage and risk of points of the curve that are enough to draw it."""
    count = len(curve.answered)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).round().astype(int))
    return curve.coverage[chosen].tolist(), (1 - curve.precision[chosen]).tolist()


def _curve_table(curve: RiskCoverage) -> Table:
    """The curve in steps of a tenth of the questions; questions of equal probability enter together."""
    places = np.searchsorted(curve.answered, np.ceil(np.array(_STEPS) / 100 * curve.questions - 1e-9))
    rows = [
        [
            f'{100 * curve.coverage[place]:.1f} %',
            f'{curve.answered[place]:,}',
            f'{curve.thresholds[place]:.4f}',
            100 * float(curve.precision[place]),
        ]
        for place in dict.fromkeys(places.tolist())
    ]
    header = ['coverage · 응답률', 'questions', 'probability from', 'precision · 정밀도, %']
    return Table(header, rows, 'The surest questions')


def describe_calibration(calibration: Mapping[str, Any]) -> str:
    """What a calibration has changed, or would change, in sentences."""
    held = calibration.get('held_out')
    text = (
        f'Temperature {calibration["temperature"]:.3f}: ECE {calibration["ece_before"]:.2f} % before and '
        f'{calibration["ece_after"]:.2f} % after'
    )
    if 'held_out' not in calibration:
        text += ', on these questions. The figures below are those after.'
    elif held:
        text += ', on images that the fit has not seen. The figures below are those before.'
    else:
        text += ', on the questions of the fit. The figures below are those before.'
    if not calibration['threshold']:
        return text
    text += (
        f' Below a probability of {calibration["threshold"]:.4f} the model abstains ({calibration["abstention"]}): it '
        f'answers {calibration["answered"]:.1f} % of the questions, {calibration["precision"]:.1f} % of them correctly'
    )
    if held:
        text += (
            f'; on images that the fit has not seen {held["answered"]:.1f} % and {held["precision"]:.1f} % '
            f'({held["precision_low"]:.1f} to {held["precision_high"]:.1f})'
        )
    return f'{text}.'
