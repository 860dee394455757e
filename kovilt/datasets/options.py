"""The options of a multiple-choice question and its answer, in the forms in which data sets write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.values import text_of
from kovilt.errors import KoviltError

SEPARATOR = '|'  # of the options in a cell of a table, and on a command line
OPTION_LISTS = ('options', 'choices')  # columns that hold all options of a row
_COLUMN = re.compile(r'(?:choice_|option_)?([a-j])', re.IGNORECASE)
_IN_QUESTION = re.compile(r'\s*(?:options|choices|옵션|선택지|보기)\s*[:：]\s*(?=A\s*[:.)])', re.IGNORECASE)
_LETTERS = 'ABCDEFGHIJ'


class ChoiceQuestion(NamedTuple):
    """A question with its normalized options, and the answer, which is one of them; '' if the row has none."""

    question: str
    options: list[str]
    answer: str


def read_choice(row: Mapping[str, Any], place: object) -> ChoiceQuestion:
    """The question of a row with its options.

    The options are the list `options` or `choices`, in a table's cell separated by |; or they are columns with a
    letter, `a`, `b`, ... or `A`, `choice_a`, `option_A`, of which empty ones are left out; or they stand at the end of
    the question: "... Options: A: ..., B: ...". The answer is the letter of an option, its text or, where the options
    are a list, the number of an option, counted from 0. Where both are possible, a letter goes first in columns, a text
    in a list.

    Args:
        row: with a `question`, which is a text.
        place: for messages; its string form is the file and line.

    Raises:
        KoviltError: fewer than two options, an empty one in a list, or an answer that is none of these.
    """
    question, listed = row['question'], row.get('options', row.get('choices'))
    by_letter = dict(_listed_options(listed, place) if listed is not None else _options_of_columns(row, place))
    if not by_letter:
        question, by_letter = _split_question(question)
    texts = list(by_letter.values())
    if len(texts) < 2:
        raise KoviltError(
            f"{place}: {len(texts)} options; a multiple-choice question has two or more, in a list 'options' or in "
            "columns 'a', 'b', 'c', ..."
        )
    value = row.get('answer')
    answer = normalize_korean(text_of(value, 'answer', place))
    if not answer:
        return ChoiceQuestion(question, texts, '')
    letters = by_letter | {letter.lower(): text for letter, text in by_letter.items()}
    by_text = {} if isinstance(value, int | float) else {text: text for text in texts}
    numbers = {str(number): text for number, text in enumerate(texts)}
    found = (by_text | letters if listed is None else letters | numbers | by_text).get(answer)
    if found is None:
        raise KoviltError(
            f"{place}: 'answer' is {answer[:40]!r}, none of the {len(texts)} options; give the text of one, or its "
            f'letter, {", ".join(by_letter)}'
        )
    return ChoiceQuestion(question, texts, found)


def has_options(row: Mapping[str, Any]) -> bool:
    """Whether a row has options beside its question: a list, or the first two columns with a letter."""
    names = {found[1].upper() for name, value in row.items() if value and (found := _COLUMN.fullmatch(str(name)))}
    return row.get('options', row.get('choices')) is not None or {'A', 'B'} <= names


def is_option_column(name: str) -> bool:
    """Whether a column of a table may hold options, by its name."""
    return name in OPTION_LISTS or bool(_COLUMN.fullmatch(name))


def split_options(text: str) -> list[str]:
    """The normalized options of a cell or of a command line, which | separates."""
    return [normalize_korean(part) for part in text.split(SEPARATOR)]


def _listed_options(values: Any, place: object) -> Iterator[tuple[str, str]]:
    """The options of a list by their letters."""
    if not isinstance(values, list | str):
        raise KoviltError(f"{place}: 'options' is {str(values)[:40]!r}; give a list of texts")
    for number, value in enumerate(values.split(SEPARATOR) if isinstance(values, str) else values):
        text = normalize_korean(text_of(value, 'options', place))
        if not text:
            raise KoviltError(f"{place}: option {number} of 'options' is empty; give its text or remove it")
        yield _LETTERS[number] if number < len(_LETTERS) else f'option {number}', text


def _options_of_columns(row: Mapping[str, Any], place: object) -> Iterator[tuple[str, str]]:
    """The options of the columns of a table by their letters."""
    columns = [(found[1].upper(), name) for name in row if (found := _COLUMN.fullmatch(str(name)))]
    for letter, name in sorted(columns):
        if text := normalize_korean(text_of(row[name], name, place)):
            yield letter, text


def _split_question(question: str) -> tuple[str, dict[str, str]]:
    """A question without the options at its end, and these by their letters; none where there are none."""
    marks = list(_IN_QUESTION.finditer(question))
    if not marks:
        return question, {}
    rest, options = question[marks[-1].end() :], dict[str, str]()
    for letter, following in zip(_LETTERS, [*_LETTERS[1:], ''], strict=True):
        rest = re.sub(rf'^\s*{letter}\s*[:.)]\s*', '', rest)
        end = re.search(rf'[,;]?\s+{following}\s*[:.)]\s', rest) if following else None
        options[letter] = normalize_korean(rest[: end.start()] if end else rest).rstrip(',;')
        if end is None:
            break
        rest = rest[end.start() :].lstrip(',; ')
    return question[: marks[-1].start()], options
