"""The arguments that a class or function takes by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, NamedTuple


class Signature(NamedTuple):
    """The arguments that a class or function takes by name.

    Args:
        arguments: all arguments that are known, by name.
        is_open: further names are accepted through **kwargs; which ones is unknown.
    """

    arguments: Mapping[str, Parameter]
    is_open: bool


@functools.cache
def signature_of(part: Callable[..., Any]) -> Signature:
    """The signature of a class, function or callable object.

    The **kwargs of a constructor are taken to go to the constructor of the next base class, and so on.
    """
    functions = [part]
    if isinstance(part, type):
        functions = [vars(base)['__init__'] for base in part.__mro__[:-1] if '__init__' in vars(base)]
    arguments: dict[str, Parameter] = {}
    is_open = False
    for function in functions:
        parameters = _parameters(function)[isinstance(part, type) :]  # without the `self` of a constructor
        for parameter in parameters:
            if parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL):
                arguments.setdefault(parameter.name, parameter)
        is_open = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
        if not is_open:
            break
    return Signature(arguments, is_open)


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function, with annotations as objects, or as text if a name exists for type checkers only."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, AttributeError):
        signature = inspect.signature(function)
    return list(signature.parameters.values())
