"""Tests reach no network and compute with one thread each: their models are so small that threads only wait."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('KOVILT_NO_REPORT', '1')  # a report takes longer than a tiny training; those of it unset this


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which need the device
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker('gpu'):
        import torch

        if not torch.cuda.is_available():
            pytest.skip('torch sees no GPU')


@pytest.fixture(scope='session', autouse=True)
def training_in_forks() -> None:
    """If torch exports a program before its first backward pass, it starts threads, and forks can no longer train."""
    if (torch := sys.modules.get('torch')) is not None:
        torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def logger_of_its_own() -> Iterator[None]:
    """MMEngine keeps the loggers of runs that are over, and they write to the output of a test that is over."""
    yield
    if (logging := sys.modules.get('mmengine.logging')) is not None:
        logging.MMLogger._instance_dict.clear()


@pytest.fixture(scope='session')
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_rooms import tiny_rooms

    return tiny_rooms(tmp_path_factory.mktemp('data') / 'rooms')


@pytest.fixture(scope='session')
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint and what `kovilt export` makes of it: 'hf', 'pt2', 'triton', and 'onnx', which lies in that."""
    from tiny_models import tiny_checkpoint

    from kovilt.apis import export_checkpoint

    checkpoint = tiny_checkpoint(run := tmp_path_factory.mktemp('exported'), seed=33)  # it gives different answers
    made = {kind: export_checkpoint(checkpoint, run / kind, format=kind) for kind in ('hf', 'pt2', 'triton')}
    return {'checkpoint': checkpoint, 'onnx': made['triton'] / 'kovilt' / '1', **made}


@pytest.fixture
def call(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb of the command `kovilt` in this process, which has everything imported.

    Returns exit code, stdout, stderr.
    """
    from kovilt.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([*map(str, arguments)])
        except SystemExit as ended:  # a wrong argument
            code = ended.code
        return code, *capsys.readouterr()

    return call
