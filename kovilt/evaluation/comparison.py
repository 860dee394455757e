"""Compares two prediction files of the same questions: which model is better, and is the difference significant?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.datasets.answers import check_weight
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import bootstrap_interval, groups_by_size, mcnemar_p
from kovilt.files import read_json_lines

REQUIRED_KEYS = ('question_id', 'image', 'ground_truth', 'answer_type', 'correct', 'tolerant_correct')

Predictions = dict[str, dict[str, Any]]  # by question id, in the order of the file


def read_predictions(path: str | Path) -> Predictions:
    """Read the predictions that `kovilt test --out` wrote.

    Raises:
        KoviltError: a missing or malformed file, a line that lacks a key or has a value of another type, a question id
            that occurs twice.
    """
    found: Predictions = {}
    for number, line in read_json_lines(path, 'table'):
        place = f'{path}, line {number}'
        prediction = check_prediction(line, place)
        name = prediction['question_id']
        if not name:
            raise KoviltError(f'{place}: no question id, so it cannot be matched with the other file')
        if name in found:
            raise KoviltError(f'{place}: question id {name} occurs a second time; files are compared by their ids')
        found[name] = prediction
    if not found:
        raise KoviltError(f'{path}: holds no prediction; kovilt test --out writes them')
    return found


def check_prediction(line: dict[str, Any], place: str) -> dict[str, Any]:
    """A line of predictions with texts as text and scores as numbers from 0 to 1."""
    if missing := [key for key in REQUIRED_KEYS if key not in line]:
        raise KoviltError(f'{place}: no {", ".join(missing)}; write the file by kovilt test --out')
    texts = {key: text_of(line[key], key, place) for key in ('question_id', 'image', 'ground_truth', 'answer_type')}
    for key in ('correct', 'tolerant_correct'):
        if not isinstance(line[key], bool | int | float) or not 0 <= line[key] <= 1:
            raise KoviltError(f'{place}: {key!r} is {str(line[key])[:40]!r}, not true, false or a score from 0 to 1')
    answers = line.get('answers') or []
    if isinstance(answers, dict):  # with their weights
        weights = {answer: check_weight(weight, answer, place) for answer, weight in answers.items()}
        return {**line, **texts, 'answers': weights}
    if not isinstance(answers, list):
        raise KoviltError(f"{place}: 'answers' is {str(answers)[:40]!r}, not a list")
    return {**line, **texts, 'answers': [text_of(answer, 'answers', place) for answer in answers]}


def pool_predictions(runs: Mapping[Any, Predictions]) -> Predictions:
    """Join the predictions of several runs of one model, by seed; each question occurs once a run.

    Two models that are pooled over the same seeds are compared like any two. The interval resamples images with their
    questions in all runs, so that more runs do not make it narrower by themselves. It does not contain the variance
    between seeds. McNemar's test assumes independent questions, so it does not apply to pooled predictions.
    """
    return {f'{run}/{name}': prediction for run, found in runs.items() for name, prediction in found.items()}


def compare_predictions(
    a: Predictions, b: Predictions, *, names: tuple[str, str] = ('A', 'B'), resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare the accuracies of two models, as a whole and by answer type, in percent.

    Returns:
        `questions`, `images`, `accuracy` and `tolerant_accuracy` ([A, B]), `difference` (B - A), its 95 %
        `difference_interval` (paired, see `bootstrap_interval`), `only_a` and `only_b` (questions on which one model
        has the higher score), `mcnemar_p` of these, and `types`, which holds `questions`, `accuracy`, `difference` and
        `difference_interval` of each answer type, the most frequent first. Where questions have several answers a
        score is a share, and McNemar's test becomes the sign test.

    Raises:
        KoviltError: the files, called by `names`, are not about the same questions.
    """
    _check_same_questions(a, b, names)
    score_a, score_b = _column(a.values(), 'correct'), _column((b[name] for name in a), 'correct')
    images = np.array([prediction['image'] or name for name, prediction in a.items()])
    types = np.array([prediction['answer_type'] for prediction in a.values()])

    def compare_part(own: np.ndarray | slice) -> dict[str, Any]:
        gain = 100 * (score_b[own] - score_a[own])
        return {
            'questions': len(gain),
            'accuracy': [float(100 * score[own].mean()) for score in (score_a, score_b)],
            'difference': float(gain.mean()),
            'difference_interval': list(bootstrap_interval(gain, images[own], resamples=resamples, seed=seed)),
        }

    only_a, only_b = int((score_a > score_b).sum()), int((score_b > score_a).sum())
    return {
        **compare_part(slice(None)),
        'tolerant_accuracy': [float(100 * _column(model.values(), 'tolerant_correct').mean()) for model in (a, b)],
        'images': len(np.unique(images)),
        'only_a': only_a,
        'only_b': only_b,
        'mcnemar_p': mcnemar_p(only_a, only_b),
        'types': {name: compare_part(types == name) for name in groups_by_size(types)},
    }


def _column(predictions: Iterable[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([prediction[key] for prediction in predictions], dtype=float)


def _check_same_questions(a: Predictions, b: Predictions, names: tuple[str, str]) -> None:
    for (ours, theirs), (mine, other) in (((a, b), names), ((b, a), names[::-1])):
        lacking = [name for name in ours if name not in theirs]
        if lacking:
            raise KoviltError(
                f'{other}: lacks {len(lacking):,} of the {len(ours):,} question ids of {mine}, e.g. '
                f'{", ".join(lacking[:5])}; test both models on the same questions'
            )
    for key in ('ground_truth', 'answers'):
        different = [name for name in a if a[name].get(key) != b[name].get(key)]
        if different:
            first = different[0]
            raise KoviltError(
                f'{names[1]}: the {key} of question {first} is {b[first].get(key)!r}, in {names[0]} it is '
                f'{a[first].get(key)!r} ({len(different):,} questions differ); test both models on the same data'
            )
