"""A value of a config is attributed to the file that set it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from kovilt.engine.config_options import flatten_config
from kovilt.engine.config_origins import COMMAND_LINE, LOAD_CONFIG, ConfigOrigins

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ENTRIES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)

BASE = """
width = 192
pipeline = [dict(type='LoadImage'), dict(type='Patchify',
                                         patch_size=16)]
shared = dict(eps=1e-5)
model = dict(encoder=dict(hidden_size=width, num_layers=4), head=dict(type='A', scale=1))
train_dataloader = dict(dataset=dict(image_pipeline=pipeline))
optimizer = dict(lr=1, **shared)
"""
ENTRY = """
_base_ = ['./base.py']
model = dict(encoder=dict(num_layers=4), head=dict(_delete_=True, type='B'))
train_dataloader = dict()
train_dataloader['dataset'] = {'limit': 5}
doubled = _base_.width * 2
legacy = dict(pipeline={{ _base_.pipeline }})
"""


@pytest.fixture
def origins(tmp_path, monkeypatch) -> ConfigOrigins:
    monkeypatch.chdir(tmp_path)
    Path('base.py').write_text(BASE, encoding='utf-8')
    Path('entry.py').write_text(ENTRY, encoding='utf-8')
    return ConfigOrigins(Path('entry.py'), ['train_cfg.max_iters=3', "optimizer={'eps': 0.1}"])


@pytest.mark.parametrize(
    ('key', 'origin'),
    [
        ('model.encoder.hidden_size', 'base.py'),
        ('model.encoder.num_layers', 'entry.py'),  # the same value as the base's, and yet the entry's
        ('model.head.type', 'entry.py'),
        ('model.head.scale', 'entry.py'),  # _delete_ replaces what the base wrote
        ('train_dataloader.dataset.limit', 'entry.py'),
        ('train_dataloader.dataset.image_pipeline.0.type', 'base.py'),
        ('train_dataloader.dataset.image_pipeline.1.patch_size', 'base.py'),
        ('optimizer.lr', 'base.py'),
        ('optimizer.eps', COMMAND_LINE),
        ('train_cfg.max_iters', COMMAND_LINE),
        ('doubled', 'entry.py'),
        ('legacy.pipeline.0.type', 'entry.py'),
        ('runner_type', LOAD_CONFIG),
    ],
)
def test_the_origin_of_a_value(origins, key, origin):
    assert origins.find(tuple(key.split('.'))) == origin


def test_flattening_opens_dicts_and_lists_of_dicts():
    config = {'a': {'b': (1, 2), 'c': [{'d': 3}, {}]}, 'e': {}}
    flat = {'.'.join(keys): value for keys, value in flatten_config(config)}
    assert flat == {'a.b': (1, 2), 'a.c.0.d': 3, 'a.c.1': {}, 'e': {}}


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_the_file_of_a_value_gives_it_also_by_itself(entry, monkeypatch):
    monkeypatch.chdir(CONFIGS)
    origins = ConfigOrigins(Path(entry))
    values: dict[str, dict] = {}
    for keys, value in flatten_config(Config.fromfile(entry).to_dict()):
        file = origins.find(keys)
        assert Path(file).is_file(), keys
        if file not in values:
            values[file] = dict(flatten_config(Config.fromfile(file).to_dict()))
        assert values[file][keys] == value
