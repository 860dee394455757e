"""Finds the file and line in which a value of a config was set."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kovilt.engine.config_files import base_files, parse_config_files
from kovilt.engine.config_options import parse_option

COMMAND_LINE = 'command line'
LOAD_CONFIG = 'load_config'  # no file sets the value, and load_config adds it: patch_size of a transform, for instance


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


@dataclass
class Setting:
    """A value as a file writes it.

    Args:
        line: where the value stands in the file.
        items: of a dict, or of a list that is written out; None for any other value.
        replaces: no item of a base remains: a list, or a dict with `_delete_=True`.
    """

    line: int
    items: dict[str, Setting] | None = None
    replaces: bool = False

    def put(self, keys: Keys, setting: Setting) -> None:
        """Set the item at a path, as `value['a']['b'] = ...` does."""
        self.items = {} if self.items is None else self.items
        if len(keys) == 1:
            self.items[keys[0]] = setting
        else:
            self.items.setdefault(keys[0], Setting(setting.line, {})).put(keys[1:], setting)


@dataclass
class ConfigFile:
    """What a config file sets, and the files it inherits from."""

    path: Path
    settings: Setting
    bases: list[ConfigFile] = field(default_factory=list)

    def find(self, keys: Keys) -> tuple[Path, int] | None:
        """The file and line that set the value at `keys`, or None if neither this file nor a base does."""
        setting = self.settings
        for key in keys:
            if setting.items is None or (key not in setting.items and setting.replaces):
                return self.path, setting.line
            if key not in setting.items:
                return next(filter(None, (base.find(keys) for base in self.bases)), None)
            setting = setting.items[key]
        return self.path, setting.line


class ConfigOrigins:
    """The origins of the values of one config, read from the sources of its files without running them.

    Args:
        path: the config file.
        options: `a.b=value` texts, as `--cfg-options` takes them.

    A value is attributed to the file nearest to the entry that writes it. A helper variable counts by the line that
    defines it; a value that code computes counts by the line of the assignment.
    """

    def __init__(self, path: Path, options: Iterable[str] = ()) -> None:
        trees = parse_config_files(path)
        files = {file: ConfigFile(file, _read_settings(tree)) for file, tree in trees.items()}
        for file, tree in trees.items():
            files[file].bases = [files[base] for base in base_files(file, tree)]
        self.entry = files[path.resolve()]
        self.options = [
            keys
            for key, value in map(parse_option, options)
            for keys, _ in flatten_config(value, tuple(key.split('.')))
        ]

    def find(self, keys: Keys) -> str:
        """`file:line` of the value at `keys`, `COMMAND_LINE` or `LOAD_CONFIG`."""
        if any(keys[: len(option)] == option for option in self.options):
            return COMMAND_LINE
        found = self.entry.find(keys)
        if found is None:
            return LOAD_CONFIG
        file, line = found
        return f'{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{line}'


def _read_settings(tree: ast.Module) -> Setting:
    """The assignments at the top of a file."""
    settings = Setting(1, {})
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if keys := _keys_of_target(target):
                    settings.put(keys, _read_value(node.value, settings))
    return settings


def _keys_of_target(node: ast.expr) -> Keys:
    """`a['b'].c` as ('a', 'b', 'c'); () for a target that is not a path of constants."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        keys, key = _keys_of_target(node.value), node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        keys, key = _keys_of_target(node.value), str(node.slice.value)
    else:
        return ()
    return (*keys, key) if keys else ()


def _read_value(node: ast.expr, variables: Setting) -> Setting:
    """The setting that an expression makes; a name stands for the setting of the variable."""
    assert variables.items is not None
    if isinstance(node, ast.Name) and node.id in variables.items:
        return variables.items[node.id]
    if isinstance(node, (ast.List, ast.Tuple)):
        items = {str(index): _read_value(item, variables) for index, item in enumerate(node.elts)}
        return Setting(node.lineno, items, replaces=True)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [(getattr(key, 'value', None), value) for key, value in zip(node.keys, node.values, strict=True)]
    else:
        return Setting(node.lineno)
    setting = Setting(node.lineno, {})
    assert setting.items is not None
    for key, value in pairs:
        if key == '_delete_':
            setting.replaces = True
        elif key is None:  # **other
            setting.items |= _read_value(value, variables).items or {}
        else:
            setting.items[str(key)] = _read_value(value, variables)
    return setting
