"""What constructors take, and where a config's types are looked up: among the classes themselves or in sources."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mmengine.registry import Registry


@dataclass(frozen=True)
class Signature:
    """The arguments that a class or function takes by name.

    Args:
        names: all of them that are known.
        required: those without a default.
        types: their annotations.
        closed: no further names are taken.
        whole: False where sources led out of reach: there may be more names.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    types: Mapping[str, Any]
    closed: bool
    whole: bool = True


class Part(NamedTuple):
    """What a type of a config stands for."""

    name: str
    signature: Signature


class Parts(Protocol):
    """Where a config's types are looked up."""

    def find(self, kind: Any, registry: Registry) -> Part | None:
        """The part that a config's `type` stands for; None when there is none or it cannot be told."""

    def instead_of(self, kind: Any, registry: Registry) -> list[str] | None:
        """The names that there are when `find` finds none; None when it cannot be told whether there is one."""

    def at(self, module: str, name: str) -> Part | None:
        """A class of a module, by its own name."""


class Argument(NamedTuple):
    name: str
    required: bool
    hint: Any  # None: no annotation, or none that can be had


class Level(NamedTuple):
    """What one constructor of a class and its bases takes."""

    arguments: list[Argument]
    takes_more: bool  # by **kwargs, which go to the next


def joined(levels: Iterable[Level]) -> Signature:
    """The signature of a class from its own constructor up the bases', as far as **kwargs lead."""
    arguments: dict[str, Argument] = {}
    closed = True
    for level in levels:
        for argument in level.arguments:
            arguments.setdefault(argument.name, argument)
        closed = not level.takes_more
        if closed:
            break
    return Signature(
        names=tuple(arguments),
        required=tuple(argument.name for argument in arguments.values() if argument.required),
        types={argument.name: argument.hint for argument in arguments.values() if argument.hint is not None},
        closed=closed,
    )


@functools.cache
def signature_of(kind: Callable) -> Signature:
    """The arguments that a class or function takes by name; **kwargs is followed up the bases' constructors."""
    if inspect.isclass(kind):
        chain = [base.__init__ for base in kind.__mro__ if '__init__' in vars(base) and base is not object]
    else:
        chain = [kind.__call__ if not inspect.isroutine(kind) and not isinstance(kind, functools.partial) else kind]
    return joined(_level(function, inspect.isclass(kind)) for function in chain)


def _level(function: Callable, is_method: bool) -> Level:
    parameters = list(inspect.signature(function).parameters.values())[is_method:]
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that exist for type checkers only
        hints = {}
    return Level(
        [
            Argument(parameter.name, parameter.default is parameter.empty, hints.get(parameter.name))
            for parameter in parameters
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ],
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters),
    )


class LoadedParts:
    """The classes themselves, imported: nothing is left open, and it takes seconds."""

    def __init__(self) -> None:
        importlib.import_module('mmengine.runner')  # fills MMEngine's own registries

    def find(self, kind: Any, registry: Registry) -> Part | None:
        if isinstance(kind, str):
            try:
                kind = registry.get(kind)
            except RuntimeError:  # MMEngine's word for a dotted name that cannot be imported
                kind = None
        return None if kind is None else _part(kind)

    def instead_of(self, kind: Any, registry: Registry) -> list[str]:
        return list({**registry.module_dict, **registry.root.module_dict})

    def at(self, module: str, name: str) -> Part:
        return _part(getattr(importlib.import_module(module), name))


def _part(kind: Callable) -> Part:
    return Part(getattr(kind, '__name__', type(kind).__name__), signature_of(kind))
