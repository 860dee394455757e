"""The answers of a row and their weights, the answer vocabulary, and the official VQA score of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError
from kovilt.files import read_json, write_json
from kovilt.json_text import parse_json
from kovilt.ranges import Count, check_value


def parse_answers(value: Any, source: RowSource) -> list[str]:
    """The answers of several people in a label: a list of texts or of objects with `answer` (VQAv2, KVQA), or None.

    Raises:
        KoviltError: anything else, with its file and line; what a text is, `text_of` decides.
    """
    if not isinstance(value, list | None):
        raise KoviltError(
            f"{source.place}: 'answers' is not a list, but {str(value)[:40]!r}; a single answer is called 'answer'"
        )
    answers = (
        answer['answer'] if isinstance(answer, dict) and 'answer' in answer else answer for answer in value or ()
    )
    return [text_of(answer, 'answers', source) for answer in answers]


def read_answers(row: Mapping[str, Any], source: RowSource) -> dict[str, list[Any]]:
    """`answers` of a row, and `answer_weights`, one for each, where it has weights. Answers of weight 0 are left out.

    Weights stand with the answers: {"빨간색": 0.8, "분홍색": 0.2}, in a cell of a table the same as text; as objects,
    [{"answer": "빨간색", "weight": 0.8}, ...]; or as pairs, which is how Arrow gives a map. An answer whose weight is
    null is none, as in Arrow's structs. Or they are a list `answer_weights` as long as `answers`, in a cell 0.8|0.2.

    Raises:
        KoviltError: as `parse_answers`; a weight that is no number from 0 to 1, no weight above 0, an empty answer, not
            as many weights as answers. The message has the file and line.
    """
    value, numbers = row.get('answers'), row.get('answer_weights')
    if isinstance(value, str) and value.lstrip().startswith('{'):
        try:
            value = parse_json(value, 'answers', remedy='write {"answer": weight, ...}')
        except KoviltError as error:
            raise KoviltError(f"{source.place}: the cell 'answers' is not JSON ({error})") from None
    pairs = _weighted_pairs(value)
    if isinstance(numbers, str):
        numbers = [_number_in(text) for text in numbers.split('|')] if numbers.strip() else None
    if not numbers and pairs is None:
        return {'answers': parse_answers(value, source)}
    if numbers:
        count = len(value) if isinstance(value, list) else 0
        if pairs is not None or not isinstance(numbers, list) or len(numbers) != count:
            raise KoviltError(
                f"{source.place}: 'answers' has {count} texts, 'answer_weights' is {str(numbers)[:40]!r}; give a list "
                'with a weight for each'
            )
        pairs = list(zip(parse_answers(value, source), numbers, strict=True))
    weights = [
        (text_of(answer, 'answers', source), check_weight(weight, answer, source.place))
        for answer, weight in pairs or ()
        if weight is not None
    ]
    if weights and not any(weight for _, weight in weights):
        raise KoviltError(f"{source.place}: 'answers' gives no answer a weight above 0; give one, or remove the row")
    if not all(normalize_korean(answer) for answer, _ in weights):
        raise KoviltError(f"{source.place}: 'answers' gives an empty answer a weight; remove it, or write its text")
    kept = [(answer, weight) for answer, weight in weights if weight]
    return {'answers': [answer for answer, _ in kept], 'answer_weights': [weight for _, weight in kept]}


def check_weight(weight: Any, answer: object, place: object) -> float:
    """The weight of an answer, which is a number from 0 to 1: its score as an answer, or its probability.

    Raises:
        KoviltError: it is not; `place` is the file and line.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise KoviltError(
            f"{place}: 'answers' gives {str(answer)[:40]!r} the weight {str(weight)[:40]!r}; give a number from 0 to 1"
        )
    return float(weight)


def _weighted_pairs(value: Any) -> list[tuple[Any, Any]] | None:
    """(answer, weight) of each answer of a value that has weights; None for one without."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(one, tuple) and len(one) == 2 for one in value):
        return value
    if any(isinstance(one, Mapping) and 'weight' in one for one in value):  # one that has none is refused
        objects = (one if isinstance(one, Mapping) else {'answer': one} for one in value)
        return [(one.get('answer'), one.get('weight', '')) for one in objects]
    return None


def _number_in(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def vqa_score(count: ArrayLike, people: int) -> np.ndarray:
    """The score, 0 to 1, of an answer that `count` of `people` gave to a question: the official VQA rule.

    The score is min(n / 3, 1), where n of the other people gave the same answer, averaged over leaving out each person
    in turn (Antol et al. 2015). For ten people that is 0.3, 0.6, 0.9 and, from four on, 1, as in ViLT. Of fewer than
    four people all others must agree, so that a unanimous answer always has score 1. This includes the single answer
    of a question, for which the rule for ten people would give 0.3.
    """
    return np.minimum(np.asarray(count) / people * max((people - 1) / 3, 1.0), 1.0)


def soft_scores(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """The `vqa_score` of each of the k distinct answers to one question, from their counts; float32 (k,)."""
    return vqa_score(counts, int(np.sum(counts))).astype(np.float32)


class AnswerOptions(TypedDict, total=False):
    """How an answer vocabulary is built; see `AnswerVocabulary.build`."""

    min_count: Count


class AnswerVocabulary:
    """The answers that a model can predict: those of the training split that are frequent enough.

    The class of an answer is its position. The most frequent answer comes first, answers of equal count in the order
    of their text; so class 0 is the majority answer. Answers are normalized by `normalize_korean`.

    Args:
        answers: distinct answers.
        counts: training rows with each answer.
        min_count: the smallest count of an answer in the vocabulary.
    """

    def __init__(self, answers: list[str], counts: list[int], *, min_count: int) -> None:
        if len(answers) != len(counts) or len(set(answers)) != len(answers):
            raise ValueError(f'{len(answers)} answers ({len(set(answers))} distinct) with {len(counts)} counts')
        self.answers, self.counts, self.min_count = answers, counts, min_count
        self.class_of = {answer: number for number, answer in enumerate(answers)}

    @classmethod
    def build(cls, counts: Mapping[str, int], *, min_count: Count = 6) -> AnswerVocabulary:
        """Build the vocabulary of the answers that occur at least `min_count` times.

        The paper removes the answers that occur 5 times or fewer.

        Raises:
            KoviltError: no answer is that frequent.
        """
        check_value('min_count', min_count, Count)  # alone: of 300,000 counts each would take longer than all the rest
        frequent = sorted(((-count, answer) for answer, count in counts.items() if count >= min_count))
        if not frequent:
            most = max(counts.values(), default=0)
            raise KoviltError(
                f'answer vocabulary is empty: none of {len(counts)} answers occurs min_count={min_count} times (the '
                f'most frequent occurs {most} times); lower answers=dict(min_count=...) or train on more rows'
            )
        return cls([answer for _, answer in frequent], [-count for count, _ in frequent], min_count=min_count)

    def __len__(self) -> int:
        return len(self.answers)

    def classes(self, answers: Iterable[str]) -> np.ndarray:
        """int64 (n,): the class of each answer, -1 = out of vocabulary (OOV)."""
        return np.array([self.class_of.get(answer, -1) for answer in answers], dtype=np.int64)

    def coverage(self, counts: Mapping[str, int]) -> float:
        """Share (0 to 1) of rows whose answer is in the vocabulary; `counts` has the rows with each answer."""
        total = sum(counts.values())
        return sum(count for answer, count in counts.items() if answer in self.class_of) / total if total else 0.0

    def save(self, path: str | Path) -> None:
        """Write a JSON file, atomically."""
        content = {'min_count': self.min_count, 'answers': self.answers, 'counts': self.counts}
        try:
            write_json(path, {'normalizer': normalize_korean.__name__, **content})
        except OSError as error:
            raise KoviltError(f'{path}: the answer vocabulary cannot be written ({error.strerror})') from error

    @classmethod
    def load(cls, path: str | Path) -> AnswerVocabulary:
        """Read a file that `save` wrote.

        Raises:
            KoviltError: missing or malformed file.
        """
        if not Path(path).is_file():
            raise KoviltError(f'{path}: no such answer vocabulary; answers=dict(min_count=6) builds one')
        content = read_json(path)
        try:
            numbers = [*content['counts'], content['min_count']]
            if any(type(number) is not int or number < 0 for number in numbers):
                raise ValueError('counts and min_count are whole numbers')
            answers = [normalize_korean(answer) for answer in content['answers']]
            vocabulary = cls(answers, numbers[:-1], min_count=numbers[-1])
        except (KeyError, TypeError, ValueError) as error:
            raise KoviltError(f'{path}: not an answer vocabulary ({type(error).__name__}: {error})') from None
        if not len(vocabulary):
            raise KoviltError(f'{path}: the answer vocabulary is empty')
        return vocabulary
