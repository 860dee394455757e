"""Finds the model that a user names: a path, or one of the models that kovilt carries, by its name."""

from __future__ import annotations

import os
from pathlib import Path

from kovilt.errors import KoviltError, nearest

ASSETS = Path(__file__).parent / 'assets'  # a model folder each, whose README tells how it was trained


def packaged_models() -> dict[str, Path]:
    """The names of the models that kovilt carries, with their model folders."""
    return {file.parent.name: file.parent for file in sorted(ASSETS.glob('*/kovilt.json'))}


def is_packaged(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is the folder of a packaged model."""
    return Path(path).resolve().parent == ASSETS.resolve()


def find_model(name: str | os.PathLike[str]) -> Path:
    """The path that `name` stands for: its own, if something is there; else the packaged model of that name.

    A path to nothing is returned as it is: the caller knows what it expected there.

    Raises:
        KoviltError: a name, without folder and ending, of neither; the message lists the packaged models.
    """
    path, names = Path(os.path.expanduser(name)), packaged_models()
    if path.exists() or str(name) != path.name or path.suffix:
        return path
    if path.name not in names:
        raise KoviltError(
            f'{name}: no such model folder or checkpoint, nor a model that kovilt carries{nearest(path.name, names)}; '
            f'those are {", ".join(names)}'
        )
    return names[path.name]
