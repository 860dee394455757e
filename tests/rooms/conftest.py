"""One small Rooms folder for the tests of its files and texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kovilt.rooms import make_rooms


@pytest.fixture(scope='session')
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('rooms') / 'rooms'
    assert make_rooms(out, images=80, val_images=20, seed=3)
    return out
