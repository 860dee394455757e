"""What the question sets have in common: answers, and the classes that the training answers make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.errors import KoviltError, nearest

from .answers import AnswerVocabulary
from .columns import CategoryColumn, TextColumn
from .pairs import PairDataset


class QuestionDataset(PairDataset):
    """Questions about pictures with one answer each. `load_data_list` gives question, answer, answer_type, question_id.

    Args:
        answers: the answer vocabulary: dict(min_count=6) builds it of this split's answers, which must be the training
            split; a path loads one; None = samples have no `label` (evaluation compares strings). It is built before
            `limit` is drawn, so that a run on a part of the data has the classes of the whole.
            Training rows whose answer is outside are left out and counted; in evaluation their label is -1.
        others: as in PairDataset.

    Raises:
        KoviltError: an empty answer vocabulary; others as in PairDataset.
    """

    COLUMNS = {
        'question': TextColumn,
        'question_id': TextColumn,
        'answer': CategoryColumn,
        'answer_type': CategoryColumn,
    }
    TEXT = 'question'

    def __init__(self, *, answers: Mapping[str, Any] | str | Path | None = None, **others: Any) -> None:
        self._answers = answers
        super().__init__(**others)

    def _select(self) -> np.ndarray:
        rows = super()._select()
        column = self._columns['answer']
        distinct = [column.values[code] for code in range(len(column.values))]
        given = np.array([bool(answer) for answer in distinct])
        rows = self._keep(rows, given[column.codes[rows]], 'no answer')
        counts = dict(zip(distinct, np.bincount(column.codes[rows], minlength=len(distinct)).tolist(), strict=True))
        self.answer_vocabulary = vocabulary = self._vocabulary(counts)
        if vocabulary is None:
            return rows
        majority = vocabulary.answers[0]
        self._log(
            f'{len(vocabulary):,} answers seen at least {vocabulary.min_count} times cover '
            f'{vocabulary.coverage(counts):.2%} of the rows; the most frequent, {majority!r}, is '
            f'{counts.get(majority, 0) / max(len(rows), 1):.2%} of them'
        )
        self._label_of_code = np.array([vocabulary.class_of.get(answer, -1) for answer in distinct], dtype=np.int64)
        if self.test_mode:
            return rows
        return self._keep(rows, self._label_of_code[column.codes[rows]] >= 0, 'answer outside the vocabulary')

    def _vocabulary(self, counts: dict[str, int]) -> AnswerVocabulary | None:
        if self._answers is None:
            return None
        if not isinstance(self._answers, Mapping):
            return AnswerVocabulary.load(self._answers)
        if self.test_mode:
            raise KoviltError(
                f'answers={dict(self._answers)}: an answer vocabulary is built of training rows; give an evaluation '
                'split None, or the path of a saved one'
            )
        for key in self._answers:
            if key != 'min_count':
                raise KoviltError(f'unknown key {key!r} in answers{nearest(key, ["min_count"])}')
        return AnswerVocabulary.build(counts, **self._answers)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Adds `answers` and `answer_counts` (how often training saw each), both in the order of the classes."""
        vocabulary = self.answer_vocabulary
        known = {'answers': vocabulary.answers, 'answer_counts': vocabulary.counts} if vocabulary else {}
        return {**super().metainfo, **known}

    def _sample(self, row: int, epoch: int, picture: int, image: dict[str, Any] | None) -> dict[str, Any]:
        sample = super()._sample(row, epoch, picture, image)
        if self.answer_vocabulary is not None:
            sample['label'] = int(self._label_of_code[self._columns['answer'].codes[self.rows[row]]])
        return sample
