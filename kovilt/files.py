"""Atomic writes, JSON and digests.

A file is written under a temporary name in the same folder and renamed when it is complete, so a crash or a full disk
leaves no half-written file. It gets the permissions of the user's umask, like any other new file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError, first_line


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to, which is renamed to `path` when the block ends without an error.

    The folder of `path` is created. After an error the temporary file is removed and an older `path` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')  # process ids repeat between machines
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to write to, which takes the place of the folder `path` when the block ends without an error.

    Raises:
        KoviltError: an OSError in the block, such as a full disk, or the folder cannot be created or replaced.
    """
    path = Path(os.path.abspath(path))
    draft, old = (path.with_name(f'.{path.name}.{uuid.uuid4().hex}.{suffix}') for suffix in ('tmp', 'old'))
    try:
        draft.mkdir(parents=True)
        yield draft
        if path.exists():
            path.rename(old)
        draft.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise KoviltError(f'{path}: cannot be written ({error.strerror or error}); choose another place') from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as draft:
        draft.write_text(text, encoding='utf-8')


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write an indented JSON file atomically, with Hangul unescaped."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + '\n')


def write_json_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file atomically, one object a line."""
    with atomic_path(path) as draft, open(draft, 'w', encoding='utf-8') as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + '\n')


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file, which may begin with a byte order mark.

    Raises:
        KoviltError: the file is missing, not UTF-8, not JSON, or not an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except FileNotFoundError as error:
        raise KoviltError(f'{path}: no such file') from error
    except (OSError, ValueError) as error:
        raise KoviltError(f'{path}: cannot be read as JSON ({first_line(error)})') from error
    if not isinstance(content, dict):
        raise KoviltError(f'{path}: holds a JSON {type(content).__name__}, not an object')
    return content


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
