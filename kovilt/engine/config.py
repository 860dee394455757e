"""Reads a config file with the options of the command line, and finds its mistakes before any work."""

from __future__ import annotations

import importlib
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kovilt.config_names import find_config
from kovilt.engine.config_check import check_config, top_level_keys
from kovilt.engine.config_files import check_top_level_names, parse_config_files
from kovilt.engine.config_options import flatten_config, parse_option
from kovilt.errors import KoviltError, first_line, nearest

_PATCH_SIZE_ARGUMENTS = {'Patchify': 'patch_size', 'ResizeViLT': 'divisor', 'RandomResizeViLT': 'divisor'}


def load_config(path: str | Path, options: Iterable[str] = (), overrides: dict[str, Any] | None = None) -> Config:
    """Read a config file and its bases, apply options, and check every key against the constructor that takes it.

    The result holds the keys of a run and nothing else: helper variables of the files, such as `data_root`, have done
    their work when the files are read. What a run dumps into its work folder is therefore a config again.

    Args:
        path: the config file, or the name of one of kovilt's.
        options: `a.b=value` texts, as `--cfg-options` takes them.
        overrides: top-level keys and their values; they win over `options`.

    Raises:
        KoviltError: a missing or broken file, a key that nothing reads, an unknown type, a value of the wrong type.
    """
    path = find_config(path)
    files = parse_config_files(path)
    config = _read(path, files)
    check_top_level_names(files)
    _apply_options(config, options)
    for name in [name for name in config if name not in top_level_keys()]:
        config.pop(name)
    _remove_own_scope(config._cfg_dict)
    for key, value in (overrides or {}).items():
        config[key] = value
    config.setdefault('default_scope', 'kovilt')
    config.setdefault('runner_type', 'KoviltRunner')
    _fill_patch_size(config)
    try:
        check_config(config)
    except KoviltError as error:
        raise KoviltError(f'{path}: {error}') from error
    return config


def _remove_own_scope(node: Any) -> None:
    """Remove `_scope_='kovilt'`, which MMEngine adds to every dict of a base that is named `kovilt::NAME.py`.

    It is the default scope, and arguments of functions, such as those of a collate function, must not hold it.
    """
    if isinstance(node, dict):
        if node.get('_scope_') == 'kovilt':
            del node['_scope_']
        for value in node.values():
            _remove_own_scope(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _remove_own_scope(value)


def _read(path: Path, files: Iterable[Path]) -> Config:
    """Let MMEngine run the config; an error names the file and line that raised it."""
    try:
        return Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is a program, so it can raise anything
        names = {str(file) for file in files}
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename in names]
        if own:
            raise KoviltError(f'{own[-1].filename}:{own[-1].lineno}: {_describe(error)}') from error
        raise KoviltError(f'{path}: {_describe_import(error)}') from error


def _describe_import(error: BaseException) -> str:
    """What went wrong when MMEngine imported the modules of `custom_imports`: the file and line of a plugin."""
    if 'import_modules_from_strings' in str(error):
        return "custom_imports must be a dict such as dict(imports=['my_package'])"
    name = re.search(r'Failed to import (\S+)', str(error.__cause__ or error))  # without the reason
    if name is not None:
        try:
            importlib.import_module(name[1])
        except ImportError as reason:
            error = reason
    if isinstance(error, SyntaxError):
        return f'custom_imports: {error.filename}:{error.lineno}: {error.msg}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    if frames:
        return f'custom_imports: {frames[-1].filename}:{frames[-1].lineno}: {_describe(error)}'
    if isinstance(error, ImportError):
        return f'custom_imports: {first_line(error)}; is the package on PYTHONPATH?'
    return _describe(error)


def _describe(error: BaseException) -> str:
    return f'{type(error).__name__}: {first_line(error)}'


def _is_installed(file: str) -> bool:
    """Whether a file is one of Python, of an installed package or of kovilt, and no plugin of a user."""
    folders = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))
    return file.startswith('<') or any(Path(file).is_relative_to(folder) for folder in folders)


def _apply_options(config: Config, options: Iterable[str]) -> None:
    """Merge `a.b=value` texts into a config that still has its helper variables."""
    values = dict(parse_option(option) for option in options)
    for key in values:
        first = key.split('.')[0]
        if first in top_level_keys():
            continue
        if first in config:
            helper = config[first]
            places = _find_text(config, helper) if helper and isinstance(helper, str) else []
            instead = f'; set {" ".join(places[:3])} instead' if places else ''
            raise KoviltError(
                f'--cfg-options {key}: {first!r} is a helper variable, whose value is copied already{instead}'
            )
        raise KoviltError(f'--cfg-options {key}: unknown key{nearest(first, top_level_keys())}')
    try:
        config.merge_from_dict(values)
    except (LookupError, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise KoviltError(f'--cfg-options {" ".join(values)}: {first_line(error)}') from error


def _fill_patch_size(config: Config) -> None:
    """Give the encoder's patch size to the image transforms that need one and do not state it.

    A config writes it once, as `model.encoder.patch_size` (METER: `model.encoder.image_encoder.patch_size`).
    """
    values = dict(flatten_config(config.to_dict()))
    keys = ('model', 'encoder', 'patch_size'), ('model', 'encoder', 'image_encoder', 'patch_size')
    sizes = [values[key] for key in keys if key in values]
    for component in _find_components(list(config.values())):
        argument = _PATCH_SIZE_ARGUMENTS.get(str(component['type']).rpartition('.')[2])
        if argument is not None and sizes:
            component.setdefault(argument, sizes[0])


def _find_components(node: Any) -> Iterator[dict[str, Any]]:
    """Every `dict(type=...)` inside a config."""
    if isinstance(node, dict) and 'type' in node:
        yield node
    if isinstance(node, (dict, list, tuple)):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _find_components(item)


def _find_text(config: Config, text: str) -> list[str]:
    """The full keys of the values of a run that begin with a text, and of lists with such an item."""
    places = []
    for keys, value in flatten_config(config.to_dict()):
        items = value if isinstance(value, (list, tuple)) else [value]
        if keys[0] in top_level_keys() and any(str(item).startswith(text) for item in items):
            places.append('.'.join(keys))
    return places
