"""A tokenizer and an empty folder, from which each test writes and reads its own data set."""

from pathlib import Path

import pytest

from kovilt.datasets import train_tokenizer
from tests.support.pair_data import TEXTS, Data


@pytest.fixture(scope='session')
def tokenizer(tmp_path_factory) -> Path:
    """A folder with a tokenizer of the texts used here."""
    folder = tmp_path_factory.mktemp('tokenizer') / 'korean'
    train_tokenizer(TEXTS * 3, folder, vocab_size=200)
    return folder


@pytest.fixture
def data(tmp_path, tokenizer) -> Data:
    return Data(tmp_path / 'data', tokenizer)
