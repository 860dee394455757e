"""Checks of values that were read from a file: the type and range of each key, and answer lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kovilt.errors import KoviltError

_NAMES = {
    dict: 'an object',
    list: 'a list',
    str: 'text',
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
}


@dataclass(frozen=True)
class Field:
    """What the value of a key must be.

    kind: its type; a float may be written as a whole number.
    low, high: limits of a number, or of the length of a list.
    choices: the values that it may have; () = any.
    items: what each item of a list must be.
    is_required: False if the key may be missing or null.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()
    items: Field | None = None
    is_required: bool = False


def check_fields(values: Any, fields: Mapping[str, Field], source: str) -> None:
    """Check the values of an object that was read from a file; other keys than those of `fields` are ignored.

    Args:
        source: the file, and the key of the object in it, for messages.

    Raises:
        KoviltError: no object, a key is missing, or its value has another type or is beyond its limits.
    """
    if not isinstance(values, Mapping):
        raise KoviltError(f'{source} is {_show(values)}; it must be an object')
    for key, field in fields.items():
        value = values.get(key)
        if value is not None:
            check_field(value, field, f'{source}: {key}')
        elif field.is_required:
            raise KoviltError(f'{source}: {key} is missing; take the original file')


def check_field(value: Any, field: Field, place: str) -> None:
    """KoviltError, which names the `place`, unless a value is what `field` says."""
    kinds: Any = (int, float) if field.kind is float else field.kind  # Any: mypy would take the value for an object
    if isinstance(value, bool) != (field.kind is bool) or not isinstance(value, kinds):
        raise KoviltError(f'{place} is {_show(value)}; it must be {_NAMES[field.kind]}')
    if field.choices and value not in field.choices:
        raise KoviltError(f'{place} is {_show(value)}; it must be {" or ".join(map(repr, field.choices))}')
    size: Any = len(value) if isinstance(value, (list, str)) else 0 if isinstance(value, dict) else value
    if not field.low <= size <= field.high or not abs(size) < math.inf:
        what = ' items' if isinstance(value, list) else ' characters' if isinstance(value, str) else ''
        limits = f'{field.low:g} to {field.high:g}' if field.high < math.inf else f'{field.low:g} or more'
        raise KoviltError(
            f'{place} {"has" if what else "is"} {size:g}{what}; it must {"have" if what else "be"} {limits}'
        )
    if field.items is not None:
        for i, item in enumerate(value):
            check_field(item, field.items, f'{place}.{i}')


def check_answers(answers: Any, source: str) -> None:
    """KoviltError unless `answers` is a list of texts, none of them empty or twice."""
    check_field(answers, Field(list, items=Field(str)), source)
    if empty := [i for i, answer in enumerate(answers) if not answer.strip()]:
        raise KoviltError(f'{source}: answer {empty[0]} is empty; every class needs an answer')
    if len(set(answers)) < len(answers):
        twice = next(answer for i, answer in enumerate(answers) if answer in answers[:i])
        raise KoviltError(f'{source}: {_show(twice)} stands for two classes; every class needs an answer of its own')


def _show(value: Any) -> str:
    """A value as JSON or Python shows it, cut to one short line."""
    if isinstance(value, (dict, list)):
        return f'{_NAMES[type(value)]} of {len(value)}'
    text = repr(value) if isinstance(value, (str, int, float, bool)) else f'a {type(value).__name__}'
    return text if len(text) <= 60 else f'{text[:60]}...'
