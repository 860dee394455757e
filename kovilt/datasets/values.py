"""Values of rows from outside as text: one rule for the labels of all readers and for predictions."""

from __future__ import annotations

import json
from typing import Any

from kovilt.errors import KoviltError

_KINDS = {list: 'a list', dict: 'an object', bool: 'a truth value'}


def text_of(value: Any, key: str, place: object) -> str:
    """The text of a value; '' for null. A whole number is written without a point, so that 3.0 and 3 are one answer.

    pandas makes 3.0 of 3 where a column of whole numbers has a gap.

    Args:
        key, place: for messages; the string form of `place` is the file and line.

    Raises:
        KoviltError: a list, an object, true or false.
    """
    kind = value.__class__
    if kind is str:
        return value
    if value is None:
        return ''
    if kind is float and value.is_integer():
        return str(int(value))
    if kind is int or kind is float:
        return str(value)
    shown = json.dumps(value, ensure_ascii=False)
    shown = shown if len(shown) <= 40 else f'{shown[:39]}…'
    raise KoviltError(f'{place}: {key!r} is {_KINDS.get(kind, kind.__name__)}, {shown}; write a text or a number')


def check_text(value: Any, key: str, place: object) -> None:
    """Raise KoviltError if a question or caption is a number, which would be the value of another column."""
    if value is not None and value.__class__ is not str:
        raise KoviltError(f'{place}: {key!r} is the number {text_of(value, key, place)}, not a text')
