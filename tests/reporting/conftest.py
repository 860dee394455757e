"""Runs that have left their reports: a fine-tuning, a test of it, and a pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_rooms import tiny_config

from kovilt.cli.main import main


class Runs(NamedTuple):
    vqa: Path
    test: Path
    pretrain: Path
    config: Path  # of vqa


@pytest.fixture(scope='session')
def runs(rooms, tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp('runs')
    config = tiny_config(folder / 'tiny.py', steps=4, save_every=2, more='train_cfg.update(val_interval=2)')
    pretrain = tiny_config(folder / 'pretrain.py', task='pretrain', steps=2, limit=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('KOVILT_NO_REPORT')
        assert main(['train', str(config), '--work-dir', str(folder / 'vqa')]) == 0
        assert main(['test', str(config), str(folder / 'vqa'), '--work-dir', str(folder / 'test')]) == 0
        assert main(['train', str(pretrain), '--work-dir', str(folder / 'pre')]) == 0
    return Runs(folder / 'vqa', folder / 'test', folder / 'pre', config)
