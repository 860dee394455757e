"""The list of the models that kovilt carries agrees with their folders, their cards and the pages."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from kovilt.config_names import config_names
from kovilt.model_names import packaged_models

ROOT = Path(__file__).resolve().parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text('utf-8'))
MODELS = {model['Name']: model for model in INDEX['Models']}
PAGES = [(ROOT / 'docs' / language / 'model_zoo.md').read_text('utf-8') for language in ('en', 'ko')]


def test_every_packaged_model_is_listed():
    assert {name: ROOT / model['Metadata']['Model folder'] for name, model in MODELS.items()} == packaged_models()
    collections = [
        collection['Name']
        for file in INDEX['Import']
        for collection in yaml.safe_load((ROOT / file).read_text('utf-8'))['Collections']
    ]
    assert {model['In Collection'] for model in MODELS.values()} <= set(collections)


@pytest.mark.parametrize('name', MODELS)
def test_files_and_digests_are_those_of_the_folder(name):
    model = MODELS[name]
    folder, digests = ROOT / model['Metadata']['Model folder'], model['Metadata']['SHA256']
    weights = {file.name for file in folder.glob('*.safetensors')}
    assert set(digests) == weights and (ROOT / model['Config']).is_file() and (ROOT / model['README']).is_file()
    listed = json.loads((folder / 'kovilt.json').read_text('utf-8'))['files']
    for file, digest in digests.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest == listed[file]['sha256']
        for page in PAGES:
            assert f'| `{name}/{file}` | {(folder / file).stat().st_size:,} | `{digest}` |' in page


@pytest.mark.parametrize('name', MODELS)
def test_numbers_are_those_of_the_card(name):
    model = MODELS[name]
    card = (ROOT / model['README']).read_text('utf-8')
    assert f'| parameters | {model["Metadata"]["Parameters"]:,} |' in card
    for result in model['Results']:
        for value in result['Metrics'].values():
            for number in value if isinstance(value, list) else [value]:
                assert re.search(rf'\b{number:.1f}\b', card), number
                assert all(re.search(rf'(?<!\d){number:.1f}(?!\d)', page) for page in PAGES), number
        assert all(result['Command'] in page for page in PAGES)
        assert result['Command'].split()[2] in config_names() and result['Command'].split()[3] == name
