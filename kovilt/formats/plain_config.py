"""The text of a config inside a checkpoint, parsed and never run."""

from __future__ import annotations

import ast
from typing import Any

from kovilt.errors import KoviltError


def read_plain_config(text: str, *, source: str) -> dict[str, Any]:
    """The values of a config's text as MMEngine dumps it: `name = value` lines of literals and dict(...), nothing else.

    A config is a program when MMEngine reads it. One that comes inside a checkpoint is only parsed, never run.

    Raises:
        KoviltError: anything that is not such a line.
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
        case ast.Call(func=ast.Name(id='dict'), args=[] | [ast.Dict()]) if all(word.arg for word in node.keywords):
            others = {word.arg: _plain_value(word.value) for word in node.keywords}
            return {**_plain_value(node.args[0]), **others} if node.args else others
        case ast.Dict() if None not in node.keys:
            pairs = zip(node.keys, node.values, strict=True)
            return {ast.literal_eval(key): _plain_value(value) for key, value in pairs}
        case ast.List():
            return [_plain_value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_plain_value(item) for item in node.elts)
    return ast.literal_eval(node)
