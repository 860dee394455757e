from collections.abc import Callable
from importlib import import_module

import pytest

from kovilt.errors import run_cli


@pytest.fixture
def call_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Runs a script of `benchmarks` in this process; returns exit code, stdout, stderr."""

    def call(script: str, *arguments: object) -> tuple[int, str, str]:
        module = import_module(f'benchmarks.{script}')
        monkeypatch.setattr('sys.argv', [script, *map(str, arguments)])
        try:
            code = run_cli(lambda: module.main(module.parse_args()))
        except SystemExit as ended:  # a wrong argument
            code = ended.code
        return code, *capsys.readouterr()

    return call
