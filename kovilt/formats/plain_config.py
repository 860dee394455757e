"""Parse the config text inside a checkpoint without running it."""

from __future__ import annotations

import ast
from typing import Any

from kovilt.errors import KoviltError


def read_plain_config(text: str, *, source: str) -> dict[str, Any]:
    """The values of a config's text as MMEngine dumps it: `name = value` lines of literals and dict(...), nothing else.

    MMEngine runs a config file as a Python program. A config that comes inside a checkpoint is only parsed. `source`
    names it in errors.

    Raises:
        KoviltError: a line is anything else.
    """
    try:
        lines = ast.parse(text).body
    except SyntaxError as error:
        raise KoviltError(f'{source}, line {error.lineno}: {error.msg}') from error
    values = {}
    for line in lines:
        if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
            raise KoviltError(f'{source}, line {line.lineno}: not a plain "name = value"; name the config file instead')
        try:
            values[line.targets[0].id] = _plain_value(line.value)
        except ValueError as error:
            raise KoviltError(f'{source}, line {line.lineno}: no plain value; name the config file instead') from error
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
