"""Runs of a tiny model within the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_rooms import tiny_config

from kovilt.engine.config import load_config
from kovilt.engine.runner import KoviltRunner
from kovilt.registry import RUNNERS


@pytest.fixture(scope='module')
def unformatted_configs() -> Iterator[None]:
    """Formatting the text of its config takes two thirds of the time in which a tiny run begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **options: (text, True))
        yield


@pytest.fixture(scope='session')
def build(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., KoviltRunner]:
    """Makes a runner of a tiny config; the keyword `work_dir` and Runner keys go to it, all others to `tiny_config`."""
    count = 0

    def make(work_dir: Path | None = None, options: tuple[str, ...] = (), overrides: dict | None = None, **parts):
        nonlocal count
        count += 1
        folder = tmp_path_factory.mktemp(f'run{count}')
        config = load_config(tiny_config(folder / 'tiny.py', **parts), options, overrides)
        config.work_dir = str(work_dir or folder / 'work')
        config.experiment_name = f'run{count}'  # MMEngine shares loggers and message hubs between runs of one name
        return RUNNERS.build(config)

    return make
