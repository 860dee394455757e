"""Parses config files without running them: their bases, and the names at their top."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from kovilt.config_names import PREFIX, find_config
from kovilt.engine.config_check import top_level_keys
from kovilt.errors import KoviltError, first_line, nearest
from kovilt.files import read_text
from kovilt.json_text import NUL_BYTE

_NOT_PASTED = '\'"\\\n\r{}'


def parse_config_files(path: Path) -> dict[Path, ast.Module]:
    """Parse a config file and all files it inherits from, itself first, without bases of other packages (`mmdet::`).

    Raises:
        KoviltError: a base does not exist or inherits from its own heir, a file is not UTF-8 text or not Python, or a
            text that MMEngine would paste into it is more than a text.
    """
    files: dict[Path, ast.Module] = {}
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(path.resolve(), ())]  # with the files that inherit from it
    while waiting:
        file, heirs = waiting.pop()
        if file in heirs:
            raise KoviltError(f'{heirs[-1]}: it inherits from {file}, which inherits from it; take one _base_ out')
        if file in files:
            continue
        if heirs and not file.is_file():
            raise KoviltError(f'{heirs[-1]}: it inherits from {file}, which does not exist')
        text = read_text(file, 'config')
        if '\0' in text:  # of which Python's versions say different things
            raise KoviltError(f'{file}:{text.partition(chr(0))[0].count(chr(10)) + 1}: {NUL_BYTE}')
        try:
            files[file] = ast.parse(text)
        except SyntaxError as error:
            raise KoviltError(f'{file}:{error.lineno or 1}: {error.msg}') from error
        except (ValueError, RecursionError, MemoryError) as error:  # brackets within brackets
            raise KoviltError(f'{file}: not Python ({first_line(error)})') from error
        _check_pastes(file, text)
        waiting += [(base, (*heirs, file)) for base in base_files(file, files[file])]
    return files


def _check_pastes(file: Path, text: str) -> None:
    """KoviltError if MMEngine would paste something into the program of a config that could change the program.

    MMEngine replaces `{{$NAME:default}}` by the environment variable and `{{ fileDirname }}` by a part of the file's
    path before Python reads the file, so a quote in the value would end the quotes around it.
    """
    pasted = {f'${name}': os.environ.get(name, '') for name in re.findall(r'\{\{[\'"]?\s*\$(\w+)', text)}
    if re.search(r'\{\{\s*file', text):
        pasted['the path of the file'] = str(file)
    for name, value in pasted.items():
        if found := next((character for character in value if character in _NOT_PASTED), None):
            raise KoviltError(
                f'{file}: MMEngine pastes {name} into it as program text, and its value has a {found!r}; write '
                "os.environ.get('NAME', 'default') in the config, which reads it as it is, or choose another value"
            )


def escape_braces(text: str) -> str:
    """The text of a config that was dumped, in which MMEngine finds no {{ }} to replace when it is read again.

    Braces occur in texts alone, since a dict is no item of a set or key of a dict.
    """
    return text.replace('{{', r'{\x7b')


def base_files(file: Path, tree: ast.Module) -> list[Path]:
    """The files that a parsed config names in `_base_`; bases of other packages are left out."""
    for name, node in _assignments(tree):
        if name == '_base_':
            try:
                bases = ast.literal_eval(node.value) if node.value else None
            except (ValueError, TypeError, RecursionError, MemoryError):
                bases = None
            bases = [bases] if isinstance(bases, str) else bases
            if not isinstance(bases, (list, tuple)) or not all(isinstance(base, str) for base in bases):
                raise KoviltError(f'{file}:{node.lineno}: _base_ must be the path of a config, or a list of such paths')
            return [
                find_config(base).resolve() if base.startswith(PREFIX) else (file.parent / base).resolve()
                for base in bases
                if '::' not in base or base.startswith(PREFIX)
            ]
    return []


def check_top_level_names(files: dict[Path, ast.Module]) -> None:
    """Raise KoviltError for a name at the top of a file that no run reads and no line of the files uses.

    A helper variable of a base that is set again is also an error: its value was copied when the base was read.
    """
    used_through_base = {
        node.attr
        for tree in files.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', None) == '_base_'
    }
    accepted = {'_base_', *top_level_keys(), *used_through_base}
    helpers: set[str] = set()
    for file, tree in reversed(files.items()):  # bases first
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        for name, node in _assignments(tree):
            if name.startswith('__') or name in accepted or name in used:
                helpers.add(name)
            elif name in helpers:
                raise KoviltError(
                    f'{file}:{node.lineno}: {name!r} is set again, but the base that uses it has been read already; '
                    'override the values themselves by their full paths'
                )
            else:
                raise KoviltError(
                    f'{file}:{node.lineno}: unknown top-level key {name!r}{nearest(name, top_level_keys())}; '
                    'nothing reads it'
                )


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    """The names that the lines at the top of a file set: `a = 1`, `a = b = 1`, `a, b = 1, 2` and `a: int = 1`."""
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        yield part.id, node
