"""Every entry config loads, is described, stands in few files, and its model is built."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from kovilt.engine.config import load_config
from kovilt.engine.config_files import base_files, parse_config_files
from kovilt.models.sizes import build_model, complete_model_config
from kovilt.rooms.scene import KINDS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
ENTRIES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
SIZES = {'num_answers': 1000, 'vocab_size': 42_000, 'mask_token_id': 4, 'special_token_ids': [0, 1, 2, 3, 4]}

# The values that an ablation changes, and the entry whose other values it shares.
ABLATIONS = {
    'mask_ratio_030': ('kovilt_pretrain_coco', {'model.mlm_head.mask_ratio'}),
    'mlm_only': ('kovilt_pretrain_coco', {'model.itm_head', 'model.wpa_head'}),
    'no_wpa': ('kovilt_pretrain_coco', {'model.wpa_head'}),
    'token_masking': ('kovilt_pretrain_coco', {'model.mlm_head.whole_word'}),
    'wpa_push_010': ('kovilt_pretrain_coco', {'model.wpa_head.loss_weight', 'model.wpa_head.mismatched'}),
    'wpa_weight_010': ('kovilt_pretrain_coco', {'model.wpa_head.loss_weight'}),
    'vqa_ema': ('kovilt_vqa_aihub', {'default_hooks.ema'}),
    'vqa_head_lr_1': ('kovilt_vqa_aihub', {'optim_wrapper.paramwise_cfg.head_lr_mult'}),
    'vqa_question_only': (
        'kovilt_vqa_aihub_scratch',
        {'train_dataloader.dataset.image_pipeline', 'val_dataloader.dataset.image_pipeline'},
    ),
    'vqa_randaugment': ('kovilt_vqa_aihub', {'train_dataloader.dataset.image_pipeline'}),
}


def chains(path: Path, files: dict[Path, ast.Module]) -> Iterator[list[Path]]:
    """Every way from a config down to a file without bases."""
    bases = base_files(path, files[path])
    for base in bases:
        yield from ([path, *chain] for chain in chains(base, files))
    if not bases:
        yield [path]


def changed_keys(ours: dict, theirs: dict, path: str = '') -> set[str]:
    """Dotted keys of the smallest dicts or values that differ."""
    keys = set()
    for key in {*ours, *theirs}:
        if ours.get(key) != theirs.get(key):
            both = isinstance(ours.get(key), dict) and isinstance(theirs.get(key), dict)
            keys |= changed_keys(ours[key], theirs[key], f'{path}{key}.') if both else {path + key}
    return keys


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_an_entry_loads_and_its_model_is_built(entry):
    config = load_config(CONFIGS / entry)
    assert Config.fromstring(config.pretty_text, '.py').model == config.model  # a checkpoint carries it as text
    model_config = complete_model_config(config.model.to_dict(), data_sizes=SIZES)
    with torch.device('meta'):
        model = build_model(model_config)
    parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    if 'rooms' not in entry.parts and not entry.stem.endswith('_small'):
        encoder = config.model.encoder
        published = {'ViLT': 88_154_112, 'METER': 279_796_224}[encoder.type] + 768 * SIZES['vocab_size']
        positions = (encoder.image_size // 16) ** 2 + 1 if encoder.type == 'METER' else 0  # of the image encoder
        assert parameters == published + 768 * positions  # the papers' base sizes
    assert config.optim_wrapper.constructor == 'ViLTOptimWrapperConstructor'


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_an_entry_trains_and_validates_on_the_splits_of_one_data_set(entry):
    config = load_config(CONFIGS / entry)
    train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
    assert (train.type, train.reader.type) == (val.type, val.reader.type)
    assert train.reader.data_root == val.reader.data_root or 'single_objects' in entry.name
    assert (train.reader.split, val.reader.split) == ('train', 'val')
    assert (train.get('test_mode', False), val.test_mode) == (False, True)


@pytest.mark.parametrize('entry', [*ENTRIES, '../examples/plugin/cosine_head.py', '../examples/plugin/grey_table.py'])
def test_an_entry_stands_in_at_most_four_files_on_two_levels_of_bases(entry):
    path = (CONFIGS / entry).resolve()
    files = parse_config_files(path)
    assert len(files) <= 4
    assert max(map(len, chains(path, files))) <= 1 + 2


@pytest.mark.parametrize('entry', ENTRIES, ids=str)
def test_an_entry_tells_its_purpose_data_expected_result_time_and_command(entry):
    text = ast.get_docstring(ast.parse((CONFIGS / entry).read_text(encoding='utf-8')))
    parts = re.split(r'^(?=Data:|Expected:|Time:|Command:)', text, flags=re.M)
    assert [part.split(':')[0] for part in parts[1:]] == ['Data', 'Expected', 'Time', 'Command']
    assert parts[0].strip().endswith('.')  # the purpose
    assert re.search(rf'^Command: .*\b(kovilt train|dist_train\.sh) {entry.with_suffix("")}( |$)', parts[4])
    for file in re.findall(r'\b(?:configs|tools|benchmarks|docs)/[\w/]+\.(?:py|sh|md)\b', text):
        assert (ROOT / file).is_file(), file
    for file in re.findall(r'(?<![\w/])(?:(?:kovilt|meter)_\w+|rooms/\w+)\.py\b', text):
        assert (CONFIGS / file).is_file(), file


@pytest.mark.parametrize('entry', [entry for entry in ENTRIES if entry.parts[0] == 'ablations'], ids=str)
def test_an_ablation_changes_its_subject_and_nothing_else(entry):
    other, subject = ABLATIONS[entry.stem]
    ours, theirs = Config.fromfile(CONFIGS / entry), Config.fromfile(CONFIGS / f'{other}.py')
    assert changed_keys(ours.to_dict(), theirs.to_dict()) == subject


@pytest.mark.parametrize('name', ['pretrain', 'meter_pretrain'])
def test_the_words_that_rooms_masks_most_often_are_its_objects(name):
    assert load_config(CONFIGS / 'rooms' / f'{name}.py').model.mlm_head.content_words == list(KINDS)


@pytest.mark.parametrize(
    ('pretrain', 'vqa'),
    [
        ('kovilt_pretrain_coco', 'kovilt_vqa_aihub'),
        ('meter_pretrain_coco', 'meter_vqa_aihub'),
        ('rooms/pretrain', 'rooms/vqa'),
        ('rooms/pretrain_prefix', 'rooms/vqa_prefix'),
        ('rooms/meter_pretrain', 'rooms/meter_vqa'),
        ('rooms/meter_pretrain', 'rooms/choice_meter'),
    ],
)
def test_pretraining_and_finetuning_share_one_encoder(pretrain, vqa):
    first, second = (load_config(CONFIGS / f'{name}.py') for name in (pretrain, vqa))
    drop = {'image_size': 0}  # METER's positions are resized when its weights are loaded
    assert first.model.encoder | drop == second.model.encoder | drop
    assert first.model.data_preprocessor == second.model.data_preprocessor


@pytest.mark.parametrize('entry', [entry for entry in ENTRIES if 'meter' in entry.name], ids=str)
def test_meter_is_given_images_of_its_image_size(entry):
    config = load_config(CONFIGS / entry)
    sides = {part.dataset.image_pipeline[1].side for part in (config.train_dataloader, config.val_dataloader)}
    assert sides == {config.model.encoder.image_size}


def test_the_numbers_of_the_paper_stand():
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
