"""Reading a config: its files, the command line's options, and all that can be found wrong before any work."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kovilt.errors import KoviltError, nearest


def load_config(path: str | Path, options: Iterable[str] = (), overrides: dict[str, Any] | None = None) -> Config:
    """The config of a file and its bases, with `--cfg-options` and a tool's own flags applied, checked as a whole.

    `options` are `a.b=value` texts; `overrides` maps top-level keys to values and counts after them. Every mistake is
    a KoviltError: a missing or broken file, a key that nothing reads, a type that nobody registered, a value of the
    wrong type.
    """
    path = Path(path)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path('configs')
        raise KoviltError(f'{path}: no such config file{nearest(path.name, (p.name for p in folder.glob("*.py")))}')
    if path.suffix != '.py':
        raise KoviltError(f'{path}: not a config file, which ends in .py')
    trees = _trees(path)
    config = _read(path, trees)
    _refuse_dead_names(trees)
    _apply(config, options)
    for key, value in (overrides or {}).items():
        config[key] = value
    config.setdefault('default_scope', 'kovilt')
    config.setdefault('runner_type', 'KoviltRunner')
    _check(config)
    return config


def _check(config: Config) -> None:
    """Most mistakes show in the sources of what a config names, in a moment; the classes themselves, imported in
    seconds, have the last word."""
    from kovilt.engine.config_check import check_config
    from kovilt.engine.source_signatures import SourceParts

    if 'torch' not in sys.modules and 'custom_imports' not in config:  # else the sources have nothing to save, or all
        check_config(config, SourceParts())
    check_config(config)


def _read(path: Path, trees: dict[Path, ast.Module]) -> Config:
    try:
        return Config.fromfile(path)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise KoviltError(f'{path}: custom_imports: {reason}; is the package on PYTHONPATH?') from error
    except Exception as error:  # a config is a program: whatever it raises is its author's mistake
        files = {str(file) for file in trees}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        where = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else str(path)
        reason = str(error).splitlines()[0] if str(error) else ''
        raise KoviltError(f'{where}: {type(error).__name__}: {reason}') from error


def _trees(path: Path) -> dict[Path, ast.Module]:
    """The file and all it inherits from, parsed; bases in other packages (`scope::file`) are left out."""
    trees: dict[Path, ast.Module] = {}
    waiting = [(path.resolve(), path)]
    while waiting:
        file, user = waiting.pop()
        if file in trees:
            continue
        if not file.is_file():
            raise KoviltError(f'{user}: it inherits from {file}, which does not exist')
        try:
            trees[file] = ast.parse(file.read_text(encoding='utf-8'))
        except SyntaxError as error:
            raise KoviltError(f'{file}:{error.lineno}: {error.msg}') from error
        except UnicodeDecodeError as error:
            raise KoviltError(f'{file}: not UTF-8 text ({error.reason} at byte {error.start})') from error
        for node in trees[file].body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
                bases = ast.literal_eval(node.value)
                waiting += [
                    ((file.parent / base).resolve(), file)
                    for base in ([bases] if isinstance(bases, str) else bases)
                    if '::' not in base
                ]
    return trees


def _refuse_dead_names(trees: dict[Path, ast.Module]) -> None:
    """A name set at the top of a file that neither the runner nor any line reads is a slip of the pen.

    Values are fixed when their own file is read: setting a base's helper again changes nothing, which is worse than
    an error.
    """
    from kovilt.engine.config_check import top_level_keys

    known = top_level_keys()
    by_base = {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', None) == '_base_'
    }
    helpers: set[str] = set()
    for file, tree in reversed(trees.items()):
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        for node in tree.body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            name = node.targets[0].id
            if name.startswith('__') or name in known or name == '_base_' or name in read or name in by_base:
                helpers.add(name)
                continue
            where = f'{file}:{node.lineno}'
            if name in helpers:
                raise KoviltError(
                    f'{where}: {name!r} is set again, but the base that uses it has been read already; override '
                    'the values themselves by their full paths'
                )
            raise KoviltError(f'{where}: unknown top-level key {name!r}{nearest(name, known)}; nothing reads it')


def _apply(config: Config, options: Iterable[str]) -> None:
    from kovilt.engine.config_check import top_level_keys

    values = dict(parse_option(option) for option in options)
    for key in values:
        first = key.split('.')[0]
        if first in top_level_keys():
            continue
        if first in config:
            users = [place for place in _places(config, config[first]) if place.split('.')[0] in top_level_keys()]
            use = f'; set {" ".join(users[:3])} instead' if users else ''
            raise KoviltError(f'--cfg-options {key}: {first!r} only helped to write the config and is dead now{use}')
        raise KoviltError(f'--cfg-options {key}: unknown key{nearest(first, top_level_keys())}')
    try:
        config.merge_from_dict(values)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise KoviltError(f'--cfg-options {" ".join(values)}: {str(error).splitlines()[0]}') from error


def _places(node: Any, value: Any, path: str = '') -> list[str]:
    """The dotted paths at which a config holds `value`; only for text, which is unlikely to be equal by chance."""
    if isinstance(node, dict):
        return [place for key, item in node.items() for place in _places(item, value, f'{path}.{key}' if path else key)]
    if isinstance(node, (list, tuple)):
        return [place for i, item in enumerate(node) for place in _places(item, value, f'{path}.{i}')]
    return [path] if isinstance(value, str) and node == value and '.' in path else []


def parse_option(option: str) -> tuple[str, Any]:
    """`a.b=value` as key and value.

    Values are Python's literals - numbers, quoted text with spaces, lists and dicts too - or true, false, none; `1,2`
    and `[a,b]` are lists; all else is text.
    """
    key, equals, text = option.partition('=')
    if not equals or not key or not all(key.split('.')):
        raise KoviltError(f'--cfg-options {option!r}: write KEY=VALUE, for instance train_dataloader.batch_size=32')
    return key, _value(text)


def _value(text: str) -> Any:
    words = {'true': True, 'false': False, 'none': None}
    text = text.strip()
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
        return list(value) if isinstance(value, tuple) and not text.startswith('(') else value
    except (ValueError, SyntaxError):
        pass  # not a literal: text, or a list of such
    bracketed = text[:1] == '[' and text[-1:] == ']'
    inner = text[1:-1] if bracketed else text
    if (bracketed or ',' in inner) and not set(inner) & set('()[]{}"\''):
        return [_value(part) for part in inner.split(',')]
    return text
