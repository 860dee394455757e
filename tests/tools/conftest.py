"""Data for the tools that train and test, and a way to run a tool."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_rooms import tiny_rooms

from kovilt.errors import run_cli

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture(scope='session')
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_rooms(tmp_path_factory.mktemp('data') / 'rooms')


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs a tool in this process, which has everything imported; returns exit code, stdout, stderr."""

    def call(tool: str, *arguments: object) -> tuple[int, str, str]:
        spec = importlib.util.spec_from_file_location('tool', TOOLS / tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        code = run_cli(lambda: module.main(module.parse_args()))
        return code, *capsys.readouterr()

    return call
