"""Reads multiple-choice questions: tables, of one's own or of benchmarks, of questions with options."""

from __future__ import annotations

from typing import Any

from kovilt.datasets.options import read_choice
from kovilt.datasets.readers.base import QuestionReader
from kovilt.datasets.readers.parquet import HFDatasetReader, ParquetReader
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.table_reader import TableReader
from kovilt.datasets.readers.tables import TableFile
from kovilt.datasets.readers.tsv import TSVReader
from kovilt.registry import READERS


class _WithOptions(TableReader):
    """Gives the options of each row, too."""

    COLUMNS = QuestionReader.WITH_OPTIONS

    def _question_record(self, row: Any, *others: Any) -> dict[str, Any]:
        table: TableFile = others[0]
        return super()._question_record(row, *others) | read_choice(row, table)._asdict()


@READERS.register_module()
class ChoiceReader(_WithOptions, PlainReader):
    """As `PlainReader`, of tables whose rows have options: `image`, `question`, `answer`, and the options.

    The options are a list `options` (in CSV separated by |), or columns `a`, `b`, `c`, ...; `read_choice` lists the
    forms. The `answer` of a row that this reader gives is the text of the right option.
    """

    HOW_TO_GET = (
        'Put train.jsonl and val.jsonl (or .csv) there, a row being {"image": "a.jpg", "question": "...", "options": '
        '["...", "..."], "answer": 0}, and the images beneath, in folders or zips'
    )


@READERS.register_module()
class ChoiceParquetReader(_WithOptions, ParquetReader):
    """As `ChoiceReader`, of Parquet files (see `ParquetReader`)."""


@READERS.register_module()
class ChoiceHFDatasetReader(_WithOptions, HFDatasetReader):
    """As `ChoiceReader`, of a folder that `save_to_disk` wrote (see `HFDatasetReader`)."""


@READERS.register_module()
class ChoiceTSVReader(_WithOptions, TSVReader):
    """As `ChoiceReader`, of TSV files of VLMEvalKit (see `TSVReader`)."""
