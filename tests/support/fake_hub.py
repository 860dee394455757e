"""A hub of models on this machine, in place of HuggingFace's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

REVISION = '0123456789abcdef0123456789abcdef01234567'


def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path, models: dict[str, Path]) -> list[str]:
    """Let the hub hold these folders by name from now on; returns a list that grows by each name that is asked for."""
    asked: list[str] = []

    def model_info(self: object, name: str, *, timeout: float) -> None:
        asked.append(name)
        if name not in models:
            error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # its constructor takes an HTTP response
            Exception.__init__(error, f'404 Client Error: {name}')
            raise error

    def snapshot_download(name: str, *, allow_patterns: Sequence[str], local_files_only: bool = False) -> str:
        folder = cache / name.replace('/', '--') / REVISION
        if local_files_only and not folder.is_dir():
            raise LocalEntryNotFoundError(f'{name} is not in the cache')
        if not local_files_only:
            folder.mkdir(parents=True, exist_ok=True)
            for file in models[name].iterdir():
                if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                    shutil.copy(file, folder)
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, 'model_info', model_info)
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
    return asked
