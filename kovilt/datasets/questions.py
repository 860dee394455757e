"""What the question sets have in common: answers, and the classes that the training answers make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kovilt.datasets.answers import AnswerVocabulary, soft_scores
from kovilt.datasets.columns import CategoryColumn, ListColumn, TextColumn
from kovilt.datasets.pairs import PairDataset
from kovilt.errors import KoviltError, nearest


class QuestionDataset(PairDataset):
    """Questions about images. `load_data_list` gives question, answer, answer_type, question_id.

    A set in which several people answer each question has `SEVERAL_ANSWERS` in its columns and gives `answers`, a list;
    its `answer`, where the reader gives none, is the most frequent of them. The same question_id about the same image
    is read once.

    Args:
        answers: the answer vocabulary: dict(min_count=6) builds it of this split's answers, which must be the training
            split; a path loads one; None = samples have no `label` (evaluation compares strings). It is built before
            `limit` is drawn, so that a run on a part of the data has the classes of the whole.
            Training rows of which no answer is inside are left out and counted; in evaluation their label is -1.
        target: what `label` is: 'hard', the class of the row's most frequent answer of those inside; 'soft', the
            `soft_scores` of all of them, float32 (C,), for a head with loss='bce'.
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
    SEVERAL_ANSWERS = {**COLUMNS, 'answers': ListColumn}
    TEXT = 'question'

    def __init__(
        self,
        *,
        answers: Mapping[str, Any] | str | Path | None = None,
        target: Literal['hard', 'soft'] = 'hard',
        **others: Any,
    ) -> None:
        if target not in ('hard', 'soft'):
            raise KoviltError(f"target={target!r}: a label is 'hard' or 'soft'")
        self._answers, self.target = answers, target
        super().__init__(**others)

    def _values(self, row: dict[str, Any]) -> dict[str, Any]:
        values = super()._values(row)
        if answers := values.get('answers'):
            values['answer'] = values['answer'] or Counter(answers).most_common(1)[0][0]  # of equals the first given
            values['answers'] = answers if len(answers) > 1 else []
        return values

    def _select(self) -> np.ndarray:
        rows = super()._select()
        rows = self._keep(rows, self._asked_first(rows), 'question_id seen before')
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
        self._class_of_answer = vocabulary.classes(distinct)
        known = self._class_of_answer[column.codes] >= 0
        if several := self._columns.get('answers'):
            values = several.items.values
            self._class_of_item = vocabulary.classes(values[code] for code in range(len(values)))
            known |= several.holds(self._class_of_item >= 0)
        if self.test_mode:
            return rows
        return self._keep(rows, known[rows], 'answer outside the vocabulary')

    def _asked_first(self, rows: np.ndarray) -> np.ndarray:
        """bool (rows,): False where an earlier row has the same question_id and image; no id is like no other.

        Done over the columns: a Python set of the ids of 7 million rows would take 650 MB.
        """
        ids, images = self._columns['question_id'].hashes()[rows], self._images[rows]
        order = np.lexsort((ids, images))  # stable: of equals the row read first stays first
        ids, images = ids[order], images[order]
        first = np.ones(len(rows), dtype=bool)
        first[order[1:]] = (ids[1:] == 0) | (ids[1:] != ids[:-1]) | (images[1:] != images[:-1])
        return first

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

    def record(self, row: int) -> dict[str, Any]:
        """As in PairDataset; `answers` is there only where several people answered."""
        record = super().record(row)
        if not record.get('answers', True):
            del record['answers']
        return record

    def _sample(self, row: int, epoch: int, number: int, image: dict[str, Any] | None) -> dict[str, Any]:
        sample = super()._sample(row, epoch, number, image)
        if self.answer_vocabulary is not None:
            stored = self.rows[row]
            if self.target == 'hard' and 'answers' not in self._columns:
                sample['label'] = int(self._class_of_answer[self._columns['answer'].codes[stored]])
            else:
                sample['label'] = self._label(*self._given(stored))
        return sample

    def _given(self, stored: int) -> tuple[np.ndarray, np.ndarray]:
        """The distinct answers of a row: their classes (k,), -1 = outside, and how many people gave each (k,)."""
        codes = self._columns['answers'].codes_of(stored) if 'answers' in self._columns else ()
        if not len(codes):
            return self._class_of_answer[self._columns['answer'].codes[[stored]]], np.ones(1, dtype=np.int64)
        distinct, counts = np.unique(codes, return_counts=True)
        return self._class_of_item[distinct], counts

    def _label(self, classes: np.ndarray, counts: np.ndarray) -> int | np.ndarray:
        known = classes >= 0
        if self.target == 'soft':
            label = np.zeros(len(self.answer_vocabulary), dtype=np.float32)
            label[classes[known]] = soft_scores(counts)[known]
            return label
        best = classes[known & (counts == counts[known].max(initial=0))]
        return int(best.min()) if len(best) else -1  # of equals the one that training saw more often
