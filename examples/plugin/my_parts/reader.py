"""A reader of questions in a CSV table."""

import csv
from collections.abc import Iterator
from typing import Any

from kovilt.datasets import QuestionReader, ReadReport
from kovilt.errors import KoviltError
from kovilt.registry import READERS


@READERS.register_module()
class CSVReader(QuestionReader):
    """Read `<data_root>/<split>.csv` with the columns image, question and answer.

    `image` is a path relative to `data_root`. Raises KoviltError, with file and line, for a row without a value.
    """

    HOW_TO_GET = 'Write train.csv and val.csv with the columns image, question, answer'

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        path = self.data_root / f'{self.split}.csv'
        if not path.is_file():
            raise KoviltError(f'{path}: no such file. {self.HOW_TO_GET}')
        with open(path, encoding='utf-8', newline='') as file:
            for number, row in enumerate(csv.DictReader(file)):
                if None in (row.get('image'), row.get('question'), row.get('answer')):
                    raise KoviltError(f'{path}:{number + 2}: a row needs image, question and answer')
                yield {**row, 'question_id': str(number), 'answer_type': ''}
