"""What a file of predictions tells about a model: accuracy by groups of questions, confused answers, examples."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.evaluation.comparison import check_prediction
from kovilt.evaluation.scoring import bootstrap_interval, groups_by_size
from kovilt.evaluation.vqa import FREQUENCY_EDGES, LENGTH_EDGES, band_of
from kovilt.files import read_json_lines

Prediction = dict[str, Any]  # a line of the file that `PredictionsHook` writes


class GroupAccuracy(NamedTuple):
    """The accuracy of a group of questions in percent, with its 95 % interval."""

    name: str
    questions: int
    accuracy: float
    low: float
    high: float


class Confusion(NamedTuple):
    """A wrong answer in place of a correct one, how often, and the surest of these predictions."""

    ground_truth: str
    answer: str
    times: int
    example: Prediction


def read_all_predictions(path: str | Path) -> list[Prediction]:
    """The predictions of a file, with texts as text and scores as numbers; question ids may be missing.

    Raises:
        KoviltError: a missing or malformed file, or one without predictions.
    """
    found = []
    for number, line in read_json_lines(path, 'table'):
        place = f'{path}, line {number}'
        prediction = check_prediction(line, place)
        score = prediction.get('score')
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise KoviltError(
                f"{place}: 'score' is {str(score)[:40]!r}, not a number from 0 to 1; kovilt test writes it"
            )
        found.append({**prediction, 'question': str(line.get('question') or ''), 'answer': str(line.get('answer', ''))})
    if not found:
        raise KoviltError(f'{path}: holds no prediction; kovilt test writes them')
    return found


def column(predictions: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """The numbers of a key, float (N,)."""
    return np.array([prediction[key] for prediction in predictions], dtype=float)


def accuracies_by(groups: Sequence[str], predictions: Sequence[Prediction]) -> list[GroupAccuracy]:
    """The accuracy of each group, largest group first; `groups` holds the group of each prediction, '' = of none."""
    correct = 100 * column(predictions, 'correct')
    images = np.array([prediction['image'] or str(number) for number, prediction in enumerate(predictions)])
    found, group_of = [], np.array(groups)
    for name in groups_by_size(group_of):
        own = group_of == name
        low, high = bootstrap_interval(correct[own], images[own])
        found.append(GroupAccuracy(name, int(own.sum()), float(correct[own].mean()), low, high))
    return found


def by_answer_type(predictions: Sequence[Prediction]) -> list[GroupAccuracy]:
    return accuracies_by([prediction['answer_type'] for prediction in predictions], predictions)


def by_question_length(predictions: Sequence[Prediction]) -> list[GroupAccuracy]:
    """By the number of words of the question, in the bands of `VQAAccuracy`; the shortest first."""
    words = [len(prediction['question'].split()) for prediction in predictions]
    bands = [band_of(count, LENGTH_EDGES) if count else '' for count in words]
    return sorted(accuracies_by(bands, predictions), key=_first_number)


def by_answer_frequency(predictions: Sequence[Prediction], counts: Mapping[str, int]) -> list[GroupAccuracy]:
    """By the number of training rows with the correct answer, in the bands of `VQAAccuracy`; '0' = OOV."""
    bands = [band_of(counts.get(prediction['ground_truth'], 0), FREQUENCY_EDGES) for prediction in predictions]
    return sorted(accuracies_by(bands, predictions), key=_first_number)


def _first_number(group: GroupAccuracy) -> int:
    return int(group.name.rstrip('+').split('-')[0])


def find_confusions(predictions: Sequence[Prediction], most: int = 20) -> list[Confusion]:
    """The wrong answers that were given most often in place of a correct one."""
    pairs: defaultdict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        answer = normalize_korean(prediction['answer'])
        if prediction['correct'] == 0 and answer != prediction['ground_truth']:  # else its image is broken
            pairs[prediction['ground_truth'], answer].append(prediction)
    largest = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
    return [Confusion(*pair, len(found), max(found, key=_score)) for pair, found in largest]


def pick_examples(predictions: Sequence[Prediction], count: int = 16) -> dict[str, list[Prediction]]:
    """The `best` (right and surest), the `worst` (wrong and surest) and `random` predictions, up to `count` of each.

    No image occurs twice in a list while others are left.
    """
    right = sorted((one for one in predictions if one['correct'] > 0), key=lambda one: (-one['correct'], -one['score']))
    wrong = sorted((one for one in predictions if one['correct'] == 0), key=_score, reverse=True)
    shuffled = random.Random(0).sample(list(predictions), len(predictions))
    parts = {'best': right, 'worst': wrong, 'random': shuffled}
    return {name: different_images(part, count) for name, part in parts.items()}


def different_images(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """The first predictions, those of images that have been taken after all others."""
    seen: set[str] = set()
    first: list[Prediction] = []
    others: list[Prediction] = []
    for prediction in predictions:
        (others if prediction['image'] in seen else first).append(prediction)
        seen.add(prediction['image'])
        if len(first) == count:
            break
    return [*first, *others][:count]


def _score(prediction: Prediction) -> float:
    return float(prediction['score'])
