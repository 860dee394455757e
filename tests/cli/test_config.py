"""`kovilt config` prints a resolved config, or values with the file that set them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from kovilt.engine.config import load_config

ROOT = Path(__file__).resolve().parents[2]
ABLATION = 'configs/ablations/mask_ratio_030.py'


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def origins(out: str) -> dict[str, str]:
    """The printed lines: 'key = value' to its origin."""
    lines = (line.rpartition('  # ') for line in out.splitlines())
    return {setting.strip(): origin for setting, _, origin in lines}


def test_what_it_prints_is_the_config(call):
    code, out, _ = call('config', ABLATION)
    assert code == 0
    assert Config.fromstring(out, '.py').to_dict() == load_config(ABLATION).to_dict()


def test_without_a_config_it_lists_their_names(call):
    code, out, _ = call('config')
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines['rooms/vqa_scratch'].startswith('Fine-tuning on Rooms questions from random weights')
    assert {'kovilt_vqa_custom', 'ablations/no_wpa'} <= lines.keys() and not any('_base_' in name for name in lines)


def test_a_key_shows_its_values_and_their_files(call):
    code, out, _ = call('config', ABLATION, 'model')
    found = origins(out)
    assert code == 0
    assert found['model.mlm_head.mask_ratio = 0.3'] == ABLATION
    assert found['model.mlm_head.loss_weight = 1.0'] == 'configs/kovilt_pretrain_coco.py'
    assert found['model.encoder.hidden_size = 768'] == 'configs/_base_/models/vilt_base.py'
    assert all(setting.startswith('model.') for setting in found)


def test_origins_of_the_whole_config_with_options(call):
    options = ('--cfg-options', 'train_cfg.max_iters=7', 'train_dataloader.dataset.image_pipeline.0={"type":"NoImage"}')
    code, out, _ = call('config', 'configs/rooms/vqa.py', '--origins', *options)
    found = origins(out)
    assert code == 0
    assert found['train_cfg.max_iters = 7'] == 'command line'
    assert found["train_dataloader.dataset.image_pipeline.0.type = 'NoImage'"] == 'command line'
    assert found['train_cfg.val_interval = 1000'] == 'configs/rooms/vqa.py'
    assert found["runner_type = 'KoviltRunner'"] == 'load_config'
    assert found['randomness.seed = 0'] == 'configs/_base_/runtime.py'


def test_a_single_value(call):
    code, out, _ = call('config', 'configs/rooms/vqa_scratch.py', 'optim_wrapper.optimizer.lr')
    assert code == 0
    [(setting, origin)] = origins(out).items()
    assert setting == 'optim_wrapper.optimizer.lr = 0.002' and origin == 'configs/rooms/vqa_scratch.py'


def test_a_saved_config(call, tmp_path, capsys):
    saved = tmp_path / 'saved.py'
    load_config('configs/rooms/vqa.py').dump(saved)
    capsys.readouterr()  # MMEngine logs the environment variables that it reads
    code, out, _ = call('config', saved, 'model.encoder')
    assert code == 0
    assert set(origins(out).values()) == {str(saved)}


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('modle', "no key 'modle' (did you mean 'model'?)"),
        ('model.encoder.hiden_size', "'model.encoder.hiden_size' (did you mean 'model.encoder.hidden_size'?)"),
        ('train_cfg.max_iters.x', "no key 'train_cfg.max_iters.x' (did you mean 'train_cfg.max_iters'?)"),
        ('train_dataloader.dataset.image_pipeline.9.type', "mean 'train_dataloader.dataset.image_pipeline."),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(call, key, message):
    code, out, error = call('config', 'configs/rooms/vqa.py', key)
    assert (code, out) == (2, '') and message in error and error.count('\n') == 1
