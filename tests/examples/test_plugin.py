"""The worked example of docs/en/plugins.md: a head, a reader and a transform from a package outside kovilt."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.registry import RUNNERS

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / 'examples' / 'plugin'
TINY = [
    'model.encoder.hidden_size=16', 'model.encoder.num_layers=1', 'model.encoder.num_heads=2', 'train_cfg.max_iters=2',
    'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'train_dataloader.dataset.answers.min_count=1',
]  # fmt: skip


@pytest.fixture
def on_path(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))


def last_val(work: Path) -> dict:
    lines = [json.loads(line) for line in (work / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    return next(line for line in reversed(lines) if line['mode'] == 'val')


def test_a_config_trains_the_head_of_a_plugin(rooms, on_path, tmp_path):
    config = load_config(PLUGIN / 'cosine_head.py', TINY, {'work_dir': str(tmp_path)})
    runner = RUNNERS.build(config)
    runner.train()
    assert type(runner.model.vqa_head).__name__ == 'CosineVQAHead'
    assert last_val(tmp_path)['questions'] > 0
    assert len((PLUGIN / 'cosine_head.py').read_text(encoding='utf-8').splitlines()) <= 10


def test_a_config_trains_on_the_reader_and_transform_of_a_plugin(rooms, on_path, tmp_path, monkeypatch):
    for split, folder in (('train', 'train2014'), ('val', 'val2014')):
        shutil.copytree(rooms / 'captions' / folder, tmp_path / folder)
        images = sorted(path.name for path in (tmp_path / folder).iterdir())
        with open(tmp_path / f'{split}.csv', 'w', encoding='utf-8', newline='') as file:
            rows = csv.writer(file)
            rows.writerow(['image', 'question', 'answer'])
            rows.writerows([f'{folder}/{name}', '소파?', answer] for name in images for answer in ('예', '아니요'))
    monkeypatch.setenv('MY_DATA', str(tmp_path))
    config = load_config(PLUGIN / 'grey_table.py', TINY, {'work_dir': str(tmp_path / 'work')})
    runner = RUNNERS.build(config)
    runner.train()
    assert last_val(tmp_path / 'work')['questions'] == 8
    image = runner.val_dataloader.dataset[0]['image']
    red, green, blue = image['patches'].reshape(len(image['patches']), 3, -1).transpose(1, 0, 2)
    assert (red == green).all() and (green == blue).all()


def test_arguments_of_a_plugin_are_checked_by_name(rooms, on_path):
    with pytest.raises(KoviltError, match="'temprature' in model.vqa_head .CosineVQAHead. .did you mean 'temperature'"):
        load_config(PLUGIN / 'cosine_head.py', ['model.vqa_head.temprature=1'])
    with pytest.raises(KoviltError, match="model.vqa_head.temperature is 'hot', a str; it must be float"):
        load_config(PLUGIN / 'cosine_head.py', ['model.vqa_head.temperature=hot'])


def test_the_package_must_be_importable(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = {str(PLUGIN / 'cosine_head.py')!r}\ncustom_imports = dict(imports=['my_prts'])\n")
    with pytest.raises(KoviltError, match='own.py: custom_imports: .*my_prts.*PYTHONPATH'):
        load_config(path)


def test_the_page_shows_code_of_the_example():
    code = ''.join(path.read_text(encoding='utf-8') for path in PLUGIN.rglob('*.py'))
    page = (ROOT / 'docs' / 'en' / 'plugins.md').read_text(encoding='utf-8')
    for line in '\n'.join(re.findall(r'^```python\n(.*?)^```$', page, re.M | re.S)).splitlines():
        assert line.removesuffix(' ...') in code
