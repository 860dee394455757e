"""Data sets of multiple choice: questions with options, one of which is the answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from kovilt.datasets.pairs import PairDataset
from kovilt.errors import KoviltError
from kovilt.ranges import check_arguments
from kovilt.registry import DATASETS


@DATASETS.register_module()
class ChoiceDataset(PairDataset):
    """Multiple-choice questions about images.

    A sample has `options`, for each of them `input_ids`, `word_ids` and `pad_id`, and `label`, the number of the right
    one; of two equal options it is the first. Rows whose answer is none of their options are left out and counted.

    Args:
        with_question: False = the model reads the options alone, as it read captions in pre-training. For questions
            such as "which sentence describes the image?".
        others: as in PairDataset; the reader's rows have `options` and `answer`, as those of `ChoiceReader`.

    Raises:
        KoviltError: rows without options; others as in PairDataset.
    """

    @check_arguments
    def __init__(self, *, with_question: bool = True, **others: Any) -> None:
        self.with_question = with_question
        super().__init__(**others)

    def _select_rows(self, held_out: Collection[int]) -> np.ndarray:
        if 'options' not in self.row_set.table:
            name = type(self.reader).__name__
            raise KoviltError(f"{name} gives no options to choose from; reader=dict(type='ChoiceReader') does")
        rows, self._labels = super()._select_rows(held_out), self._find_labels()
        return self._filter_rows(rows, self._labels[rows] >= 0, 'the answer is none of the options')

    def _find_labels(self) -> np.ndarray:
        """int64 (stored rows,): the number of each row's answer among its options, -1 = it is none of them."""
        options, answers = self.row_set.table['options'], self.row_set.table['answer']
        code_of = {answer: code for code, answer in enumerate(answers.dictionary.to_pylist())}
        codes = np.array([code_of.get(text, -1) for text in options.values.dictionary.to_pylist()], dtype=np.int64)
        starts = options.offsets.to_numpy().astype(np.int64)  # (stored rows + 1,)
        row_of = np.repeat(np.arange(len(options)), np.diff(starts))  # (options,): the row of each
        is_answer = codes[options.values.indices.to_numpy()] == answers.indices.to_numpy()[row_of]
        found = np.flatnonzero(is_answer)[::-1]  # reversed: of several the first is written last
        labels = np.full(len(options), -1, dtype=np.int64)
        labels[row_of[found]] = found - starts[row_of[found]]
        return labels

    def _read_text(self, row: int) -> dict[str, Any]:
        table, stored = self.row_set.table, self.rows[row]
        question, options = table[self.reader.TEXT][stored].as_py(), table['options'][stored].as_py()
        if self.with_question:
            read = [self._tokenize(text=question, option=option) for option in options]
        else:
            read = [self._tokenize(text=option) for option in options]
        return {'options': read, 'label': int(self._labels[stored])}
