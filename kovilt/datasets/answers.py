"""The answers a model chooses from: those of the training set that are frequent enough."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.json_rows import Rows
from kovilt.errors import KoviltError


def parse_answers(value: Any, rows: Rows) -> list[Any]:
    """The answers of several people as labels hold them: strings, or objects with an `answer` (VQAv2, KVQA); or None.

    Raises:
        KoviltError: anything else, with its place.
    """
    if not isinstance(value, list | None):
        raise KoviltError(
            f"{rows.place}: 'answers' is no list, but {str(value)[:40]!r}; a single one is called 'answer'"
        )
    answers = []
    for answer in value or ():
        if isinstance(answer, dict) and 'answer' in answer:
            answer = answer['answer']
        if not isinstance(answer, str | int | float | None):
            raise KoviltError(
                f"{rows.place}: expecting a string or an object with 'answer', found {str(answer)[:40]!r}"
            )
        answers.append(answer)
    return answers


def agreement(count: ArrayLike, people: int) -> np.ndarray:
    """What an answer is worth, 0 to 1, that `count` of `people` gave to a question: the official VQA rule.

    An answer is right when at least three others gave it, min(n / 3, 1), averaged over leaving out each person in turn
    (Antol et al. 2015). For ten people that is 0.3, 0.6, 0.9 and, from four on, 1, as in ViLT. Of N people with one
    left out, N - 1 remain; where they are fewer than three, all of them have to agree, so that a unanimous answer is
    always worth 1: the only answer of a set with one answer a question too, which the rule for ten would hold down to
    0.3.
    """
    return np.minimum(np.asarray(count) / people * max((people - 1) / 3, 1.0), 1.0)


def soft_scores(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """The `agreement` of each distinct answer to one question, from how many people gave it; float32 (k,)."""
    return agreement(counts, np.sum(counts)).astype(np.float32)


class AnswerVocabulary:
    """Answers and how often training saw each, the most frequent first (ties in the order of their text).

    An answer's place is its class, so class 0 is the majority answer. Answers are normalised by `normalize_korean`.

    Args:
        answers: distinct answers.
        counts: rows of the training set with each.
        min_count: the smallest count that was kept.
    """

    def __init__(self, answers: list[str], counts: list[int], *, min_count: int) -> None:
        if len(answers) != len(counts) or len(set(answers)) != len(answers):
            raise ValueError(f'{len(answers)} answers ({len(set(answers))} distinct) with {len(counts)} counts')
        self.answers, self.counts, self.min_count = answers, counts, min_count
        self.class_of = {answer: number for number, answer in enumerate(answers)}

    @classmethod
    def build(cls, counts: Mapping[str, int], *, min_count: int = 6) -> AnswerVocabulary:
        """Keep the answers seen at least `min_count` times; the paper removes those seen 5 times or fewer.

        Raises:
            KoviltError: no answer is that frequent.
        """
        kept = sorted(((-count, answer) for answer, count in counts.items() if count >= min_count))
        if not kept:
            most = max(counts.values(), default=0)
            raise KoviltError(
                f'answer vocabulary is empty: none of {len(counts)} answers occurs min_count={min_count} times (the '
                f'most frequent occurs {most} times); lower answers=dict(min_count=...) or train on more rows'
            )
        return cls([answer for _, answer in kept], [-count for count, _ in kept], min_count=min_count)

    def __len__(self) -> int:
        return len(self.answers)

    def classes(self, answers: Iterable[str]) -> np.ndarray:
        """int64 (n,): the class of each answer, -1 for one outside."""
        return np.array([self.class_of.get(answer, -1) for answer in answers], dtype=np.int64)

    def coverage(self, counts: Mapping[str, int]) -> float:
        """Share (0 to 1) of rows, given as how often each answer occurs in them, whose answer is in the vocabulary."""
        total = sum(counts.values())
        return sum(count for answer, count in counts.items() if answer in self.class_of) / total if total else 0.0

    def save(self, path: str | Path) -> None:
        """Write as JSON; a reader never sees half a file."""
        path = Path(path)
        content = {
            'normalizer': normalize_korean.__name__,
            'min_count': self.min_count,
            'answers': self.answers,
            'counts': self.counts,
        }
        draft = path.with_name(f'{path.name}.{os.getpid()}.tmp')
        try:
            draft.write_text(json.dumps(content, ensure_ascii=False, indent=0) + '\n', encoding='utf-8')
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise KoviltError(f'{path}: the answer vocabulary cannot be written ({error.strerror})') from error

    @classmethod
    def load(cls, path: str | Path) -> AnswerVocabulary:
        """Read what `save` wrote.

        Raises:
            KoviltError: missing or malformed file.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8-sig'))
            vocabulary = cls(
                [normalize_korean(answer) for answer in content['answers']],
                [int(count) for count in content['counts']],
                min_count=int(content['min_count']),
            )
        except FileNotFoundError:
            raise KoviltError(f'{path}: no such answer vocabulary; answers=dict(min_count=6) builds one') from None
        except OSError as error:
            raise KoviltError(f'{path}: the answer vocabulary cannot be read ({error.strerror})') from error
        except json.JSONDecodeError as error:
            raise KoviltError(
                f'{path}, line {error.lineno}, column {error.colno}: {error.msg}; not an answer vocabulary'
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise KoviltError(f'{path}: not an answer vocabulary ({type(error).__name__}: {error})') from None
        if not len(vocabulary):
            raise KoviltError(f'{path}: the answer vocabulary is empty')
        return vocabulary
