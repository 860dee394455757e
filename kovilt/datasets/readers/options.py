"""The options of a multiple-choice question, as benchmarks store them, and the text of the option that is right."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError

LETTERS = 'ABCDEFGHIJ'
OPTION_LISTS = ('options', 'choices')
OPTION_COLUMNS = (*LETTERS, *LETTERS.lower(), *OPTION_LISTS)


def read_options(row: Mapping[str, Any], source: RowSource) -> list[str]:
    """The options of a row: its columns A, B, C, ... (or a, b, c, ...), or its list `options` or `choices`.

    Empty columns at the end count as absent; a list may be written as text. Empty for a row without options.

    Raises:
        KoviltError: a value that is no option, with its place.
    """
    for letters in (LETTERS, LETTERS.lower()):
        if letters[0] in row and letters[1] in row:
            texts = [text_of(row.get(letter), letter, source).strip() for letter in letters]
            while texts and texts[-1] in ('', 'nan', 'None'):
                texts.pop()
            return texts
    key = next((name for name in OPTION_LISTS if row.get(name)), None)
    if key is None:
        return []
    value = _parse_list(row[key]) if isinstance(row[key], str) else row[key]
    if not isinstance(value, list):
        raise KoviltError(f'{source.place}: {key!r} is {str(row[key])[:40]!r}; give a list of texts')
    return [text_of(option, key, source).strip() for option in value]


def _parse_list(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):  # literals alone, of JSON or of Python
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def right_option(answer: Any, options: list[str], source: RowSource) -> str:
    """The text of the option that an answer names by its letter, its number from 0, or itself.

    Raises:
        KoviltError: it names none of them.
    """
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return options[answer]
    text = text_of(answer, 'answer', source).strip()
    if text in options:
        return text
    letter = text.strip('().').upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return options[LETTERS.index(letter)]
    if text.isdecimal() and int(text) < len(options):
        return options[int(text)]
    raise KoviltError(f"{source.place}: 'answer' is {text[:40]!r}, which names none of {len(options)} options")
