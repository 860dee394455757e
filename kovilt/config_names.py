"""Finds the config that a user names: a file, or one of kovilt's own by its name."""

from __future__ import annotations

from pathlib import Path

import kovilt
from kovilt.errors import KoviltError, nearest

PREFIX = 'kovilt::'  # MMEngine's way to name a config of a package, in `_base_` too


def config_folder() -> Path:
    """The folder of kovilt's own configs: part of the installed package, beside the package in a checkout."""
    package = Path(kovilt.__file__).parent
    installed = package / '.mim' / 'configs'  # in an editable install a link to the checkout's
    return installed.resolve() if installed.is_dir() else package.parent / 'configs'


def config_names() -> dict[str, Path]:
    """The names of kovilt's own configs, such as `rooms/vqa`, with their files."""
    folder = config_folder()
    return {file.relative_to(folder).with_suffix('').as_posix(): file for file in sorted(folder.rglob('*.py'))}


def find_config(name: str | Path) -> Path:
    """The file of a config.

    Args:
        name: a path, or the name of one of kovilt's entries, with or without `.py`: `kovilt_vqa_aihub`, `rooms/vqa`,
            `kovilt::rooms/vqa.py`.

    Raises:
        KoviltError: there is no such config; the message names the nearest one.
    """
    path, names = Path(name), config_names()
    if path.is_file():
        if path.suffix != '.py':
            raise KoviltError(f'{name}: not a config file, which ends in .py')
        return path
    if path.is_dir():
        raise KoviltError(f'{name}: a folder; name a config file, which ends in .py')
    stem = str(name).removeprefix(PREFIX).removesuffix('.py')
    if stem in names:
        return names[stem]
    entries = [entry for entry in names if not entry.startswith('_base_/')]
    beside = [file.name for file in path.parent.glob('*.py')]
    hint = nearest(path.name, beside) or nearest(stem.removeprefix('configs/'), entries)
    raise KoviltError(f'{name}: no such config file{hint or "; `kovilt config` lists those of kovilt"}')
