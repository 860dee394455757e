"""A model folder to damage, and a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.weights import save_model_folder


@pytest.fixture(scope='session')
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny trained model, which no test changes."""
    out = tmp_path_factory.mktemp('models') / 'vqa'
    others = dict(model_cfg=tiny_config(), image_pipeline=IMAGE_PIPELINE, max_text_len=MAX_TEXT_LEN)
    return save_model_folder(tiny_model(), tiny_tokenizer(), out, answer_counts=[5, 4, 3, 2, 1], **others)


@pytest.fixture(scope='session')
def run(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config tiny.py and, in `run`, the two steps that it has trained; no test changes them."""
    from tiny_rooms import tiny_config

    from kovilt.cli.main import main

    folder = tmp_path_factory.mktemp('trained')
    config = tiny_config(folder / 'tiny.py', steps=2, limit=32)
    assert main(['train', str(config), '--work-dir', str(folder / 'run')]) == 0
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / 'model'))
