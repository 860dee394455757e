"""The values of a config by their full keys, and the syntax that `--cfg-options` gives them: `a.b=value`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kovilt.errors import KoviltError

Keys = tuple[str, ...]  # the way to a value: ('model', 'encoder', 'drop_rate')


def flatten_config(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """All values of a config with the keys that lead to them: dicts, and lists with dicts in them, are opened."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    if not items:
        yield keys, value
    for key, item in items:
        yield from flatten_config(item, (*keys, str(key)))


def parse_option(option: str) -> tuple[str, Any]:
    """Split `a.b=value` into the key and the value.

    A value is a Python literal (a number, quoted text, a list, a dict), one of true, false and none, or a list without
    quotes: `1,2` or `[a,b]`. Anything else is text.
    """
    key, equals, text = option.partition('=')
    if not equals or not key or not all(key.split('.')):
        raise KoviltError(f'--cfg-options {option!r}: write KEY=VALUE, for instance train_dataloader.batch_size=32')
    return key, _parse_value(text)


def _parse_value(text: str) -> Any:
    constants = {'true': True, 'false': False, 'none': None}
    text = text.strip()
    if text.lower() in constants:
        return constants[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        in_brackets = text[:1] == '[' and text[-1:] == ']'
        inner = text[1:-1] if in_brackets else text
        if (in_brackets or ',' in inner) and not set(inner) & set('()[]{}"\''):
            return [_parse_value(part) for part in inner.split(',')]
        return text
    return list(value) if isinstance(value, tuple) and not text.startswith('(') else value
