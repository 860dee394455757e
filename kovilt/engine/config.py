"""Reads a config file with the options of the command line, and finds its mistakes before any work."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kovilt.engine.config_check import check_config, top_level_keys
from kovilt.engine.config_files import check_top_level_names, parse_config_files
from kovilt.engine.config_options import parse_option
from kovilt.errors import KoviltError, first_line, nearest

_PATCH_SIZE_ARGUMENTS = {'Patchify': 'patch_size', 'ResizeViLT': 'divisor'}


def load_config(path: str | Path, options: Iterable[str] = (), overrides: dict[str, Any] | None = None) -> Config:
    """Read a config file and its bases, apply options, and check every key against the constructor that takes it.

    The result holds the keys of a run and nothing else: helper variables of the files, such as `data_root`, have done
    their work when the files are read. What a run dumps into its work folder is therefore a config again.

    Args:
        path: the config file.
        options: `a.b=value` texts, as `--cfg-options` takes them.
        overrides: top-level keys and their values; they win over `options`.

    Raises:
        KoviltError: a missing or broken file, a key that nothing reads, an unknown type, a value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path('configs')
        raise KoviltError(f'{path}: no such config file{nearest(path.name, (p.name for p in folder.glob("*.py")))}')
    if path.suffix != '.py':
        raise KoviltError(f'{path}: not a config file, which ends in .py')
    files = parse_config_files(path)
    config = _read(path, files)
    check_top_level_names(files)
    _apply_options(config, options)
    for name in [name for name in config if name not in top_level_keys()]:
        config.pop(name)
    for key, value in (overrides or {}).items():
        config[key] = value
    config.setdefault('default_scope', 'kovilt')
    config.setdefault('runner_type', 'KoviltRunner')
    _fill_patch_size(config)
    check_config(config)
    return config


def _read(path: Path, files: Iterable[Path]) -> Config:
    """Let MMEngine run the config; an error names the file and line that raised it."""
    try:
        return Config.fromfile(path)
    except ImportError as error:
        raise KoviltError(f'{path}: custom_imports: {first_line(error)}; is the package on PYTHONPATH?') from error
    except Exception as error:  # a config is a program, so it can raise anything
        names = {str(file) for file in files}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in names]
        where = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else str(path)
        raise KoviltError(f'{where}: {type(error).__name__}: {first_line(error)}') from error


def _apply_options(config: Config, options: Iterable[str]) -> None:
    """Merge `a.b=value` texts into a config that still has its helper variables."""
    values = dict(parse_option(option) for option in options)
    for key in values:
        first = key.split('.')[0]
        if first in top_level_keys():
            continue
        if first in config:
            run = {name: value for name, value in config.to_dict().items() if name in top_level_keys()}
            places = _find_text(run, config[first])
            instead = f'; set {" ".join(places[:3])} instead' if places else ''
            raise KoviltError(
                f'--cfg-options {key}: {first!r} is a helper variable, whose value is copied already{instead}'
            )
        raise KoviltError(f'--cfg-options {key}: unknown key{nearest(first, top_level_keys())}')
    try:
        config.merge_from_dict(values)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise KoviltError(f'--cfg-options {" ".join(values)}: {first_line(error)}') from error


def _fill_patch_size(config: Config) -> None:
    """Give the encoder's patch size to the image transforms that need one and do not state it.

    A config writes it once, as `model.encoder.patch_size` (METER: `model.encoder.image_encoder.patch_size`).
    """
    owner, sizes = config.get('model'), []
    for part in ('encoder', 'image_encoder'):
        owner = owner.get(part) if isinstance(owner, dict) else None
        if isinstance(owner, dict) and 'patch_size' in owner:
            sizes.append(owner['patch_size'])
    if not sizes:
        return
    for component in _find_components(list(config.values())):
        argument = _PATCH_SIZE_ARGUMENTS.get(str(component['type']).rpartition('.')[2])
        if argument is not None:
            component.setdefault(argument, sizes[0])


def _find_components(node: Any) -> Iterator[dict[str, Any]]:
    """Every `dict(type=...)` inside a config."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _find_components(item)


def _find_text(node: Any, text: Any, path: str = '') -> list[str]:
    """The dotted paths inside a config at which a text stands, alone or as the beginning of a longer one."""
    if isinstance(node, dict):
        return [
            place for key, item in node.items() for place in _find_text(item, text, f'{path}.{key}' if path else key)
        ]
    if isinstance(node, (list, tuple)):
        return [place for i, item in enumerate(node) for place in _find_text(item, text, f'{path}.{i}')]
    return [path] if isinstance(text, str) and text and str(node).startswith(text) else []
