"""The arguments that a class or function takes by name."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signature:
    """The arguments that a class or function takes by name.

    Args:
        names: all arguments that are known.
        required: the names of those without a default.
        hints: the annotations, by name; arguments without one are absent.
        open: further names are accepted through **kwargs, and nothing says which.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    hints: Mapping[str, Any]
    open: bool


@functools.cache
def signature_of(part: Callable) -> Signature:
    """The signature of a class, function or callable object.

    The **kwargs of a constructor are taken to go to the constructor of the next base class, and so on.
    """
    if isinstance(part, type):
        functions = [vars(base)['__init__'] for base in part.__mro__ if '__init__' in vars(base) and base is not object]
        skipped = 1  # self
    else:
        functions, skipped = [part], 0
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    is_open = False
    for function in functions:
        found = list(inspect.signature(function).parameters.values())[skipped:]
        own_hints = _type_hints(function)
        for parameter in found:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name in parameters:
                continue
            parameters[parameter.name] = parameter
            if parameter.name in own_hints:
                hints[parameter.name] = own_hints[parameter.name]
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in found)
        if not is_open:
            break
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return Signature(tuple(parameters), tuple(required), hints, is_open)


def _type_hints(function: Callable) -> dict[str, Any]:
    """The annotations of a function as objects; none where one of them has a name that only type checkers know."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}
