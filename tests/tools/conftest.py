"""Data for the tools that train and test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_rooms import tiny_rooms


@pytest.fixture(scope='session')
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rooms(tmp_path_factory.mktemp('data') / 'rooms')
