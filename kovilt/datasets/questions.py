"""Data sets of questions: pairs with answers, and the labels that the training answers define."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kovilt.datasets.answers import AnswerOptions, AnswerVocabulary, soft_scores
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.teacher_answers import TeacherAnswers
from kovilt.errors import KoviltError
from kovilt.ranges import check_arguments
from kovilt.registry import DATASETS


@DATASETS.register_module()
class QuestionDataset(PairDataset):
    """Questions about images, with the label of each answer.

    Args:
        answers: the answer vocabulary. dict(min_count=6) builds it from the answers of this split, which must be the
            training split; a path loads one; None = samples have no `label` (evaluation compares strings). It is built
            before `limit` is applied, so that a run on a part of the data has the labels of the whole. Training rows
            without an answer in the vocabulary are left out and counted; in evaluation their label is -1.
        target: form of `label`. 'hard': the label of the row's most frequent answer in the vocabulary, or of the one of
            greatest weight. 'soft': float32 (C,), the scores of all its answers: their weights where the row has them
            (`read_answers`), else their `soft_scores`.
        teacher_answers: a file of another model's answers to these questions, from which `VQAHead` learns beside the
            labels (see `teacher_answers`, docs/en/distillation.md). Of training alone. Rows that it lacks are counted.
        others: as in PairDataset.

    Raises:
        KoviltError: an empty answer vocabulary; a file of teacher_answers that does not fit; others as in PairDataset.
    """

    @check_arguments
    def __init__(
        self,
        *,
        answers: AnswerOptions | str | Path | None = None,
        target: Literal['hard', 'soft'] = 'hard',
        teacher_answers: str | Path | None = None,
        **others: Any,
    ) -> None:
        self._answers, self.target = answers, target
        self.answer_vocabulary: AnswerVocabulary | None = None
        self._teacher: TeacherAnswers | None = None
        super().__init__(**others)
        if teacher_answers is not None:
            self._teacher = self._open_teacher(teacher_answers)

    def _open_teacher(self, path: str | Path) -> TeacherAnswers:
        if self.answer_vocabulary is None or self.test_mode:
            raise KoviltError(
                f'teacher_answers={str(path)!r}: a student learns from them, so they belong to training rows with an '
                'answer vocabulary, answers=dict(min_count=...); leave them out here'
            )
        teacher = TeacherAnswers(path, row_set=self.row_set, vocabulary=self.answer_vocabulary, rows=self.rows)
        self._log(f"teacher's answers in {path}: {teacher.coverage}")
        return teacher

    def _select_rows(self, held_out: Collection[int]) -> np.ndarray:
        table, rows = self.row_set.table, super()._select_rows(held_out)
        if 'answer' not in table:
            name = type(self.reader).__name__
            raise KoviltError(f"{name} gives captions, which have no answers; type='PairDataset' serves them")
        distinct = table['answer'].dictionary.to_pylist()
        codes = table['answer'].indices.to_numpy()  # int32 (stored rows,): indices in `distinct`
        given = np.array([bool(answer) for answer in distinct])
        rows = self._filter_rows(rows, given[codes[rows]], 'no answer')
        counts = dict(zip(distinct, np.bincount(codes[rows], minlength=len(distinct)).tolist(), strict=True))
        self.answer_vocabulary = vocabulary = self._open_vocabulary(counts)
        if vocabulary is None:
            return rows
        majority = vocabulary.answers[0]
        self._log(
            f'{len(vocabulary):,} answers seen at least {vocabulary.min_count} times cover '
            f'{vocabulary.coverage(counts):.2%} of the rows; the most frequent, {majority!r}, is '
            f'{counts.get(majority, 0) / max(len(rows), 1):.2%} of them'
        )
        self._answer_labels = vocabulary.classes(distinct)
        known = self._answer_labels[codes] >= 0
        if (several := table.get('answers')) is not None:
            self._item_labels = vocabulary.classes(several.values.dictionary.to_pylist())
            known_items = self._item_labels[several.values.indices.to_numpy()] >= 0
            known_before = np.concatenate([[0], np.cumsum(known_items)])  # (items + 1,): known among the items before
            known |= np.diff(known_before[several.offsets.to_numpy()]) > 0
        if self.test_mode:
            return rows
        return self._filter_rows(rows, known[rows], 'answer outside the vocabulary')

    def _open_vocabulary(self, counts: dict[str, int]) -> AnswerVocabulary | None:
        if self._answers is None:
            return None
        if not isinstance(self._answers, Mapping):
            return AnswerVocabulary.load(self._answers)
        if self.test_mode:
            raise KoviltError(
                f'answers={dict(self._answers)}: an answer vocabulary is built from training rows; for an evaluation '
                'split give None, or the path of a saved vocabulary'
            )
        return AnswerVocabulary.build(counts, **self._answers)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Adds `answers` and `answer_counts` (how often each occurs in training), both in the order of the labels."""
        vocabulary = self.answer_vocabulary
        known = {'answers': vocabulary.answers, 'answer_counts': vocabulary.counts} if vocabulary else {}
        return {**super().metainfo, **known}

    def summary(self) -> dict[str, Any]:
        """As in PairDataset; the digest is also of the teacher's answers, and `teacher_answers` says how many fit."""
        summary = super().summary()
        if self._teacher is None:
            return summary
        digest = hashlib.blake2b(summary['digest'].encode() + self._teacher.digest(), digest_size=16)
        return summary | {'digest': digest.hexdigest(), 'teacher_answers': self._teacher.coverage._asdict()}

    def record(self, row: int) -> dict[str, Any]:
        """As in PairDataset; `answers` is included only where there are several or weights, `answer_weights` only with
        weights.
        """
        record = super().record(row)
        return {name: value for name, value in record.items() if value or name not in ('answers', 'answer_weights')}

    def _make_sample(self, row: int, epoch: int, number: int, image: dict[str, Any] | None) -> dict[str, Any]:
        sample = super()._make_sample(row, epoch, number, image)
        if self.answer_vocabulary is not None:
            sample['label'] = self._label(self.answer_vocabulary, self.rows[row])
        if self._teacher is not None:
            sample['teacher_log_probs'] = self._teacher.log_probabilities(self.rows[row])
        return sample

    def _label(self, vocabulary: AnswerVocabulary, stored: int) -> int | np.ndarray:
        """The label of a row of the table."""
        table = self.row_set.table
        if self.target == 'hard' and 'answers' not in table:
            return int(self._answer_labels[table['answer'].indices[stored].as_py()])
        labels, counts, scores = self._answers_of(stored)
        known = labels >= 0
        if self.target == 'soft':
            label = np.zeros(len(vocabulary), dtype=np.float32)
            label[labels[known]] = scores[known]
            return label
        best = labels[known & (counts == counts[known].max(initial=0))]
        return int(best.min()) if len(best) else -1  # of equally frequent ones the one more frequent in training

    def _answers_of(self, stored: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct answers of a row of the table, each (k,): labels, -1 = OOV; how many people gave each, or its
        weight; scores, float32.
        """
        table = self.row_set.table
        codes = table['answers'][stored].values.indices.to_numpy() if 'answers' in table else ()
        if not len(codes):
            one = np.ones(1, dtype=np.float32)
            return self._answer_labels[[table['answer'].indices[stored].as_py()]], one, one
        if 'answer_weights' in table and len(listed := table['answer_weights'][stored].values):
            weights = listed.to_numpy()
            return self._item_labels[codes], weights, weights.astype(np.float32)
        distinct, counts = np.unique(codes, return_counts=True)
        return self._item_labels[distinct], counts, soft_scores(counts)
