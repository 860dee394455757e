"""From a config to batches, as MMEngine's Runner builds them."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from kovilt.engine.config import load_config
from tests.support.pair_data import failure

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.fixture
def scope():
    with DefaultScope.overwrite_default_scope('kovilt'):
        yield


def config(data, kind: str, root: str, **more) -> dict:
    return {
        'batch_size': 4,
        'num_workers': 0,
        'dataset': {
            'type': 'PairDataset' if kind == 'AIHubCOCOKoreanReader' else 'QuestionDataset',
            'reader': {'type': kind, 'data_root': root, 'split': 'train'},
            **data.pipelines,
            **more.pop('dataset', {}),
        },
        'sampler': {'type': 'ImageGroupSampler', 'shuffle': True, 'texts_per_image': 2},
        'batch_sampler': {'type': 'GlobalBatchSampler'},
        'collate_fn': {'type': 'PairCollate', 'micro_batches': 2},
        **more,
    }


def test_a_config_becomes_batches(data, scope):
    data.living()
    cfg = config(data, 'AIHubLivingReader', str(data.root), dataset={'answers': {'min_count': 4}})
    batches = list(Runner.build_dataloader(cfg, seed=3))
    assert [[len(part['label']) for part in parts] for parts in batches] == [[2, 2]] * 3
    again = Runner.build_dataloader(cfg, seed=3)
    assert torch.equal(next(iter(again))[0]['input_ids'], batches[0][0]['input_ids'])
    again.batch_sampler.sampler.set_epoch(1)
    assert not torch.equal(next(iter(again))[0]['sample_seed'], batches[0][0]['sample_seed'])


def test_pretraining_and_question_only(data, scope):
    data.captions()
    cfg = config(data, 'AIHubCOCOKoreanReader', str(data.root), dataset={'image_pipeline': [{'type': 'NoImage'}]})
    for parts in Runner.build_dataloader(cfg, seed=0):
        for batch in parts:
            assert batch['patches'].shape == (0, 0) and (batch['grids'] == 0).all() and 'label' not in batch


def test_a_spawned_worker_gives_the_same_batches(data, scope):
    """Spawned workers get everything by pickling, also on Windows and macOS; of cached rows they get the path."""
    data.living()
    data.zip('Training/개인생활환경 이미지 수집.zip', 'Training/images')
    cfg = config(data, 'AIHubLivingReader', str(data.root), dataset={'answers': {'min_count': 4}})
    cfg['dataset']['reader']['cache'] = True
    here = list(Runner.build_dataloader(cfg, seed=3))
    there = list(Runner.build_dataloader({**cfg, 'num_workers': 1, 'multiprocessing_context': 'spawn'}, seed=3))
    for one, two in zip(here, there, strict=True):
        for left, right in zip(one, two, strict=True):
            assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize('workers', [0, 1])
def test_bad_input_in_a_worker_is_reported_in_one_line(data, scope, workers):
    data.living()
    cfg = config(data, 'AIHubLivingReader', str(data.root), num_workers=workers)
    loader = Runner.build_dataloader(cfg, seed=0)
    for path in data.root.rglob('*.jpg'):
        path.write_text('no image')
    message = failure(loader)
    assert message.startswith('1 of 4 images of') and '\n' not in message


def batches_of(entry: str, variable: str, data, tokenizer, monkeypatch) -> list[dict]:
    """The training batches of an entry config when one path and a tokenizer are set."""
    monkeypatch.setenv(variable, str(data.root))
    monkeypatch.setenv('KOVILT_TOKENIZER', str(tokenizer))
    cfg = load_config(CONFIGS / entry).train_dataloader
    cfg.update(num_workers=0, persistent_workers=False)
    return [batch for parts in Runner.build_dataloader(cfg, seed=0) for batch in parts]


def test_a_custom_folder_needs_one_path(data, scope, tokenizer, monkeypatch):
    rows = [{'image': f'{n}.png', 'question': '소파 위에', 'answer': ['예', '네'][n]} for n in range(2)]
    data.write('train.jsonl', '\n'.join(map(json.dumps, rows)))
    for n in range(2):
        data.image(f'{n}.png')
    (batch,) = batches_of('kovilt_vqa_custom.py', 'KOVILT_CUSTOM', data, tokenizer, monkeypatch)
    assert batch['grids'].tolist() == [[12, 18]] * 2 and sorted(batch['label'][:2].tolist()) == [0, 1]


def test_ten_answers_become_soft_labels(data, scope, tokenizer, monkeypatch):
    data.image('a.png')
    answers = [{'answer': answer} for answer in ['예'] * 8 + ['네'] * 2]
    row = {'image': 'a.png', 'question': '소파 위에', 'answers': answers, 'answer_type': 'yes/no'}
    data.write('KVQA_annotations_train.json', [{**row, 'image': f'{n}/a.png'} for n in range(3)])
    for n in range(3):
        data.image(f'{n}/a.png')
    (batch,) = batches_of('kovilt_vqa_kvqa.py', 'KOVILT_KVQA', data, tokenizer, monkeypatch)
    assert batch['label'].dtype == torch.float32 and batch['label'].unique(dim=0).tolist() == [[1.0]]
