"""The config that a run saves into its work folder is a config: it trains, tests and answers like its original."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_rooms import CONFIGS, tiny_teacher

from kovilt.engine.config import load_config
from kovilt.models.sizes import build_model, complete_model_config

ENTRIES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
SMOKE = [entry for entry in ENTRIES if entry.parts[0] == 'rooms']  # small enough to be run
SIZES = {'num_answers': 1000, 'vocab_size': 42_000, 'mask_token_id': 4, 'special_token_ids': [0, 1, 2, 3, 4]}
ONE_STEP = (
    'load_from=None',
    'train_cfg.max_iters=1',
    'train_dataloader.batch_size=4',
    'val_dataloader.batch_size=4',
    'val_dataloader.num_workers=0',
    'val_dataloader.dataset.limit=4',
)
MORE = {'choice_vocabulary': ('train_dataloader.dataset.answers.min_count=1',)}  # its answers are rare in so few rows
CHOOSE = ('choice', 'choice_meter', 'choice_question_only')  # their models need options


@pytest.mark.parametrize('entry', [entry for entry in ENTRIES if entry not in SMOKE], ids=str)
def test_a_saved_full_size_config_is_the_same_and_its_model_is_built(entry, tmp_path):
    config = load_config(CONFIGS / entry)
    config.dump(tmp_path / 'saved.py')
    saved = load_config(tmp_path / 'saved.py')
    assert saved.to_dict() == config.to_dict()
    model_config = complete_model_config(saved.model.to_dict(), data_sizes=SIZES)
    with torch.device('meta'):
        build_model(model_config)


@pytest.mark.parametrize('entry', SMOKE, ids=str)
def test_a_saved_config_trains_tests_and_answers(entry, rooms, tmp_path, call, monkeypatch):
    monkeypatch.setenv('KOVILT_ROOMS_ALONE', str(rooms))
    monkeypatch.setenv('KOVILT_TEACHER', str(tiny_teacher(tmp_path / 'teacher.jsonl')))
    folders = [tmp_path / name for name in ('first', 'again', 'test')]
    options = [*ONE_STEP, *MORE.get(entry.stem, ())]
    code, _, error = call('train', CONFIGS / entry, '--work-dir', folders[0], '--cfg-options', *options)
    assert code == 0, error
    saved = folders[0] / entry.name
    code, _, error = call('train', saved, '--work-dir', folders[1])
    assert code == 0, error
    first, again = (torch.load(folder / 'iter_1.pth', weights_only=True)['state_dict'] for folder in folders[:2])
    assert all(torch.equal(first[name], again[name]) for name in first)

    code, _, error = call('test', saved, folders[0] / 'iter_1.pth', '--work-dir', folders[2])
    assert code == 0, error
    metrics = json.loads((folders[2] / 'metrics.json').read_text(encoding='utf-8'))['metrics']
    assert metrics
    load_config(folders[2] / entry.name)
    if 'accuracy' in metrics:
        image = next((rooms / 'vqa').rglob('*.jpg'))
        choices = ['--choices', '빨간색|파란색'] if entry.stem in CHOOSE else []
        code, out, error = call('predict', folders[0], image, '소파는 무슨 색이에요?', '--config', saved, *choices)
        assert code == 0 and out.startswith('소파는'), error
