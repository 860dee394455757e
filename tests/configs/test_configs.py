"""Every config is whole: it loads, each of its keys is read by someone, and its model can be built."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from kovilt.engine.config import load_config
from kovilt.models.sizes import build_model, complete_model_config
from kovilt.rooms.scene import KINDS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ENTRIES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
DATASETS = sorted((CONFIGS / '_base_' / 'datasets').glob('*.py'))
SIZES = {'num_answers': 1000, 'vocab_size': 42_000, 'mask_token_id': 4, 'special_token_ids': [0, 1, 2, 3, 4]}


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_an_entry_is_right_and_its_model_is_built(entry):
    config = load_config(CONFIGS / entry)
    assert Config.fromstring(config.pretty_text, '.py').model == config.model  # a checkpoint carries it as text
    model_config = complete_model_config(config.model.to_dict(), data_sizes=SIZES)
    with torch.device('meta'):
        model = build_model(model_config)
    body = sum(parameter.numel() for parameter in model.encoder.parameters())
    if 'rooms' not in entry.parts:
        encoder = config.model.encoder
        published = {'ViLT': 88_154_112, 'METER': 279_796_224}[encoder.type] + 768 * SIZES['vocab_size']
        positions = (encoder.image_size // 16) ** 2 + 1 if encoder.type == 'METER' else 0  # those of its images
        assert body == published + 768 * positions  # the papers' base sizes
    assert config.optim_wrapper.constructor == 'ViLTOptimWrapperConstructor'


@pytest.mark.parametrize('dataset', DATASETS, ids=lambda path: path.stem)
def test_each_data_set_fits_a_model(dataset, tmp_path):
    kind = 'vqa' if 'VQAAccuracy' in str(Config.fromfile(dataset).val_evaluator) else 'pretraining'
    schedule = {'vqa': 'finetuning', 'pretraining': 'pretraining'}[kind]
    bases = [CONFIGS / '_base_' / f'{name}.py' for name in ('runtime', f'models/{kind}', f'schedules/{schedule}')]
    entry = tmp_path / 'entry.py'
    entry.write_text(f'_base_ = {[str(base) for base in [*bases, dataset]]}\n', encoding='utf-8')
    config = load_config(entry)
    train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
    assert (train.type, train.data_root) == (val.type, val.data_root)
    assert (train.split, train.get('test_mode', False), val.split, val.test_mode) == ('train', False, 'val', True)


def test_the_names_that_rooms_hides_most_are_those_it_draws():
    assert load_config(CONFIGS / 'rooms' / 'pretrain.py').model.mlm_head.content_words == list(KINDS)


@pytest.mark.parametrize(
    ('pretrain', 'vqa'), [('meter_pretrain_coco', 'meter_vqa_aihub'), ('rooms/meter_pretrain', 'rooms/meter_vqa')]
)
def test_meters_configs_train_one_encoder(pretrain, vqa):
    first, second = (load_config(CONFIGS / f'{name}.py') for name in (pretrain, vqa))
    drop = {'image_size': 0}  # whose positions are resized
    assert first.model.encoder | drop == second.model.encoder | drop
    assert first.model.data_preprocessor == second.model.data_preprocessor
    for config in (first, second):
        sides = {part.dataset.image_pipeline[1].side for part in (config.train_dataloader, config.val_dataloader)}
        assert sides == {config.model.encoder.image_size}


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_an_entry_says_what_it_is_for(entry):
    words = ast.get_docstring(ast.parse((CONFIGS / entry).read_text(encoding='utf-8')))
    assert f'configs/{entry}' in words  # its command
    if entry.parent == Path('.'):
        assert all(part in words for part in ('Data:', 'Expected:', 'Time:', 'Command:'))


@pytest.mark.parametrize('entry', [entry for entry in ENTRIES if entry.parts[0] == 'ablations'], ids=str)
def test_an_ablation_changes_its_subject_and_nothing_else(entry):
    ours = Config.fromfile(CONFIGS / entry)
    [base] = [
        node.value.value
        for node in ast.parse((CONFIGS / entry).read_text(encoding='utf-8')).body
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_'
    ]
    theirs = Config.fromfile((CONFIGS / entry).parent / base)
    assert 1 <= sum(ours.get(key) != theirs.get(key) for key in {*ours, *theirs}) <= 2


def test_the_papers_numbers_stand():
    pretrain = load_config(CONFIGS / 'kovilt_pretrain_coco.py')
    heads = pretrain.model.mlm_head, pretrain.model.itm_head, pretrain.model.wpa_head
    assert [head.loss_weight for head in heads] == [1.0, 1.0, 0.5]  # L = L1 + L2 + 0.5 L3
    assert (pretrain.model.mlm_head.mask_ratio, pretrain.model.mlm_head.whole_word) == (0.15, True)
    assert (pretrain.model.wpa_head.beta, pretrain.model.wpa_head.iterations) == (0.5, 50)
    meter = load_config(CONFIGS / 'meter_pretrain_coco.py')
    assert meter.optim_wrapper.optimizer.lr == 1e-5 and meter.optim_wrapper.paramwise_cfg.head_lr_mult == 5
    assert (meter.train_dataloader.batch_size * 8, meter.model.encoder.image_size) == (4096, 288)
    part = load_config(CONFIGS / 'kovilt_vqa_aihub_6pct.py')
    assert part.train_dataloader.dataset.limit == 80_000 and part.train_cfg.max_epochs == 5
    assert load_config(CONFIGS / 'kovilt_vqa_aihub_scratch.py').load_from is None
