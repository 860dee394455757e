"""Parse the config text inside a checkpoint without running it."""

from __future__ import annotations

import ast
from typing import Any

from kovilt.errors import KoviltError

_MAX_CHARACTERS = 1_000_000


def read_plain_config(text: str, *, source: str) -> dict[str, Any]:
    """The values of a config's text as MMEngine dumps it: `name = value` lines of literals and dict(...), nothing else.

    MMEngine runs a config file as a Python program. A config that comes inside a checkpoint is only parsed. `source`
    names it in errors.

    Raises:
        KoviltError: a line is anything else.
    """
    if len(text) > _MAX_CHARACTERS:
        raise KoviltError(f'{source}: {len(text):,} characters; a config has at most {_MAX_CHARACTERS:,}')
    line: int | None = None
    values = {}
    try:
        for node in ast.parse(text).body:
            line = node.lineno
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
                raise KoviltError(f'{source}, line {line}: not a plain "name = value"; name the config file instead')
            values[node.targets[0].id] = _plain_value(node.value)
    except SyntaxError as error:
        raise KoviltError(f'{source}, line {error.lineno}: {error.msg}') from error
    except (ValueError, TypeError, RecursionError, MemoryError) as error:  # the last two: of deeply nested brackets
        where = '' if line is None else f', line {line}'
        raise KoviltError(f'{source}{where}: no plain value; name the config file instead') from error
    return values


def _plain_value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[] | [ast.Dict()]) if all(pair.arg for pair in node.keywords):
            keywords = {str(pair.arg): _plain_value(pair.value) for pair in node.keywords}
            return {**_plain_value(node.args[0]), **keywords} if node.args else keywords
        case ast.Dict():
            pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
            if len(pairs) < len(node.keys):  # {**other}
                raise ValueError('unpacking')
            return {ast.literal_eval(key): _plain_value(value) for key, value in pairs}
        case ast.List():
            return [_plain_value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_plain_value(item) for item in node.elts)
    return ast.literal_eval(node)
