"""Reads multiple-choice questions of one's own: images, and a JSONL or CSV table of questions with options."""

from __future__ import annotations

from typing import Any

from kovilt.datasets.options import read_choice
from kovilt.datasets.readers.base import QuestionReader
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.tables import TableFile
from kovilt.registry import READERS


@READERS.register_module()
class ChoiceReader(PlainReader):
    """As `PlainReader`, of tables whose rows have options: `image`, `question`, `answer`, and the options.

    The options are a list `options` (in CSV separated by |), or columns `a`, `b`, `c`, ...; `read_choice` lists the
    forms. The `answer` of a row that this reader gives is the text of the right option.
    """

    COLUMNS = QuestionReader.WITH_OPTIONS
    HOW_TO_GET = (
        'Put train.jsonl and val.jsonl (or .csv) there, a row being {"image": "a.jpg", "question": "...", "options": '
        '["...", "..."], "answer": 0}, and the images beneath, in folders or zips'
    )

    def _question_record(self, row: Any, source: TableFile, *others: Any) -> dict[str, Any]:
        return super()._question_record(row, source, *others) | read_choice(row, source)._asdict()
