"""Tests reach no network and compute with one thread each: their models are so small that threads only wait."""

import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.fixture(autouse=True)
def logger_of_its_own() -> Iterator[None]:
    """MMEngine keeps the loggers of runs that are over, and they write to the output of a test that is over."""
    yield
    if (logging := sys.modules.get('mmengine.logging')) is not None:
        logging.MMLogger._instance_dict.clear()
