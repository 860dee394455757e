"""Which values an argument takes: its type and, of a number, its range, both stated by its annotation.

A constructor states a range beside the name, `mask_ratio: Annotated[float, Range(gt=0, lt=1)]`. `check_arguments` holds
every call of the constructor to it; the checks of a config read the same annotation before anything is built.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union

from kovilt.errors import BadValueError, nearest

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')

_OUT_OF_RANGE = 'out of range'  # a problem that is told with the whole annotation


@dataclass(frozen=True)
class Range:
    """The numbers that are at least `ge`, above `gt`, at most `le` and below `lt`; not-a-number is outside of all.

    `infinite` includes infinity, which is otherwise outside as well.
    """

    ge: float = -math.inf
    le: float = math.inf
    gt: float = -math.inf
    lt: float = math.inf
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        is_inside = self.ge <= value <= self.le and (value > self.gt or self.gt == -math.inf)
        is_finite = abs(value) <= sys.float_info.max  # False also for an int that no float can hold
        return is_inside and (value < self.lt or self.lt == math.inf) and (self.infinite or is_finite)

    def __str__(self) -> str:
        limits = {'at least': self.ge, 'above': self.gt, 'at most': self.le, 'below': self.lt}
        texts = [f'{name} {limit:,}' for name, limit in limits.items() if abs(limit) != math.inf]
        return ' and '.join(texts) or 'finite'


Size = Annotated[int, Range(ge=1, le=100_000)]  # of a model or an image: a larger one is a slip, and fills the memory
VocabSize = Annotated[int, Range(ge=1, le=10_000_000)]
MLPRatio = Annotated[float, Range(gt=0, le=100)]
Layers = Annotated[int, Range(ge=1, le=1_000)]
Count = Annotated[int, Range(ge=1, le=10**9)]  # of steps, epochs, rows; 10**9 stands for "no end" in MMEngine
BatchSize = Annotated[int, Range(ge=1, le=1_000_000)]
Index = Annotated[int, Range(ge=0, le=10**9)]
Seed = Annotated[int, Range(ge=0, le=2**32 - 1)]  # NumPy's
Positive = Annotated[float, Range(gt=0)]
NotNegative = Annotated[float, Range(ge=0)]
Share = Annotated[float, Range(ge=0, le=1)]
Rate = Annotated[float, Range(ge=0, lt=1)]  # of dropout, and of moving averages


def check_arguments(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a constructor or a function: each call raises BadValueError for the first argument that
    `check_value` refuses.

    The message names the class, or the function, and the argument.
    """
    owner = function.__qualname__.removesuffix('.__init__')

    @functools.cache
    def hints() -> dict[str, Any]:  # at the first call, when every name in the annotations is known
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        return {one.name: one.annotation for one in parameters if one.kind is not one.VAR_KEYWORD}

    @functools.wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for name, value in (*zip(hints(), args, strict=False), *kwargs.items()):
            check_value(f'{owner}.{name}', value, hints().get(name, Any))
        return function(*args, **kwargs)

    return checked


def check_value(name: str, value: Any, hint: Any) -> None:
    """Raise BadValueError if a value contradicts an annotation; the message has name, value and what is due.

    An int is also a float, and a bool is no number. Read are int, float, bool, str, None, paths, Literal, lists,
    tuples, dicts, TypedDict, unions of these, and numbers with a `Range`; any other annotation accepts every value.
    """
    if problem := _find_problem(name, value, hint):
        raise BadValueError(problem)


def _find_problem(name: str, value: Any, hint: Any) -> str:
    """What is wrong with a value, or nothing."""
    alternatives = _alternatives(hint)
    of_kind = [one for one in alternatives if _is_of_kind(value, one)]
    problems = [_find_inner_problem(name, value, one) for one in of_kind]
    if not all(problems):
        return ''
    inner = [problem for problem in problems if problem and problem != _OUT_OF_RANGE]
    if inner:
        return inner[0]
    if problems:
        return (
            f'{name} is {_show(value)}; it must be {" or ".join(_describe(a, a not in of_kind) for a in alternatives)}'
        )
    choices = [choice for one in alternatives for choice in typing.get_args(one) if typing.get_origin(one) is Literal]
    guess = nearest(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else ''
    kind = '' if choices and isinstance(value, str) or value is None else f', a {type(value).__name__}'
    due = ' or '.join(dict.fromkeys(_describe(one, True) for one in alternatives))
    return f'{name} is {_show(value)}{kind}; it must be {due}{guess}'


def _alternatives(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return [one for part in typing.get_args(hint) for one in _alternatives(part)]
    return [hint]


def _is_of_kind(value: Any, hint: Any) -> bool:
    """Whether a value has the outermost type of an annotation that is no union."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _is_of_kind(value, typing.get_args(hint)[0])
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is Path:
        return isinstance(value, (str, os.PathLike))
    if typing.is_typeddict(hint) or (origin or hint) in (dict, Mapping):
        return isinstance(value, Mapping)
    if (origin or hint) in (list, tuple, Sequence):
        return isinstance(value, (list, tuple))
    if (origin or hint) is Collection:
        return isinstance(value, (list, tuple, set, frozenset, range))
    return True


def _find_inner_problem(name: str, value: Any, hint: Any) -> str:
    """What is wrong with a value that has the outermost type of an annotation; `_OUT_OF_RANGE` for a number."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if isinstance(parts[1], Range):
            return '' if value in parts[1] else _OUT_OF_RANGE
        return _find_inner_problem(name, value, parts[0])
    if hint is float:
        return '' if value in Range() else _OUT_OF_RANGE
    items: Iterable[tuple[Any, Any, Any]] = ()
    if typing.is_typeddict(hint):
        known = typing.get_type_hints(hint, include_extras=True)
        for key in value:
            if key not in known:
                choices = f'; it takes {", ".join(known)}' if len(known) <= 12 else ''
                return f'unknown key {key!r} in {name}{nearest(str(key), known) or choices}'
        for key in sorted(hint.__required_keys__ - value.keys()):
            return f'missing key {key!r} in {name}'
        items = ((key, value[key], known[key]) for key in value)
    elif origin is tuple and Ellipsis not in parts:
        if len(value) != len(parts):
            return f'{name} is {_show(value)}; it must be {_describe(hint, True)}'
        items = zip(range(len(parts)), value, parts, strict=True)
    elif origin in (list, Sequence) and parts:
        items = ((number, item, parts[0]) for number, item in enumerate(value))
    elif origin in (dict, Mapping) and parts:
        items = ((key, item, parts[1]) for key, item in value.items())
    return next(filter(None, (_find_problem(f'{name}.{key}', item, part) for key, item, part in items)), '')


def _describe(hint: Any, with_kind: bool) -> str:
    """An annotation in words; `with_kind` = False leaves out the type of a number that has a range."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind = f'{parts[0].__name__}, ' if with_kind else ''
        return f'{kind}{next(part for part in parts if isinstance(part, Range))}'
    if origin is Literal:
        return ('one of ' if len(parts) > 1 else '') + ', '.join(map(repr, parts))
    if hint in (None, type(None)):
        return 'None'
    if hint is float and not with_kind:
        return 'finite'
    if typing.is_typeddict(hint) or (origin or hint) in (dict, Mapping):
        return 'a dict'
    if origin is tuple and Ellipsis not in parts:
        return f'a list of {len(parts)}'
    if (origin or hint) in (list, tuple, Sequence, Collection):
        return 'a list'
    return 'text' if hint is Path else getattr(hint, '__name__', str(hint))


def _show(value: Any) -> str:
    """A value in one short line; Python refuses to print an integer of more than 4,300 digits."""
    if isinstance(value, int) and abs(value) > 10**40:
        return f'an integer of {value.bit_length():,} bits'
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    return ' '.join(short.repr(value).split())
