"""Public weights by their name on the hub: safetensors and settings only, with the revision that was taken."""

import shutil
from pathlib import Path

import pytest
from fake_hub import REVISION, fake_hub

from kovilt.errors import KoviltError
from kovilt.files import read_json
from kovilt.hub import find_hub_model
from kovilt.weights import import_weights


@pytest.fixture
def hub(mlm, vit, bert, tmp_path, monkeypatch):
    """The hub has a ViLT, a ViT, a BERT and a ViLT of pickles; the current folder is empty."""
    with_more, pickles = (shutil.copytree(mlm.folder, tmp_path / 'there' / name) for name in ('with_more', 'pickles'))
    for name in ('pytorch_model.bin', 'modeling.py', 'model.onnx'):
        (with_more / name).write_bytes(b'not to be downloaded')
    (pickles / 'model.safetensors').rename(pickles / 'pytorch_model.bin')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    models = {'some/vilt': with_more, 'some/vit': vit.folder, 'some/bert': bert.folder, 'some/pickles': pickles}
    return fake_hub(monkeypatch, tmp_path / 'cache', models)


def test_a_vilt_is_downloaded_once_without_pickles_and_programs(hub):
    found = find_hub_model('some/vilt')
    assert {file.suffix for file in found.folder.iterdir()} <= {'.safetensors', '.json', '.txt'}
    assert found.revision == REVISION and find_hub_model('some/vilt') == found and hub == ['some/vilt']
    import_weights('some/vilt', 'start')
    training = read_json(Path('start', 'kovilt.json'))['training']
    assert training['imported from'].startswith(f'some/vilt, revision {REVISION} (HuggingFace ViLT, sha256 ')


def test_a_vit_takes_its_words_from_a_bert_of_the_hub(hub):
    report = import_weights('some/vit', 'start', bert='some/bert')
    assert report.details['imported from'].startswith('some/vit, revision ')
    assert f'BERT: some/bert, revision {REVISION}' in report.details['notes']


def test_what_lies_on_this_machine_goes_first(hub, mlm, tmp_path):
    shutil.copytree(mlm.folder, 'some/vilt')
    assert find_hub_model('some/vilt') is None and find_hub_model(tmp_path / 'nothing') is None
    assert find_hub_model('some/wilt') is None  # a path with a misspelt end
    for name in ('vilt', 'other/vilt.pth', './other/vilt', 'other/more/vilt', '~/vilt', '~nobody-here/vilt'):
        assert find_hub_model(name) is None, name
    assert not hub


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('some/wilt', 'model some/wilt: neither a local file or folder nor a name on the hub'),
        ('some/pickles', 'no safetensors of it.*hf download some/pickles --local-dir FOLDER, and name that FOLDER'),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub, name, message):
    with pytest.raises(KoviltError, match=message) as error:
        import_weights(name, 'start')
    assert '\n' not in str(error.value) and not Path('start').exists()


def test_without_a_network_the_command_that_downloads_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    message = 'hub cannot be reached .*run: hf download some/absent-vilt --local-dir FOLDER, and name that FOLDER'
    with pytest.raises(KoviltError, match=message) as error:
        import_weights('some/absent-vilt', 'start')
    assert '\n' not in str(error.value)
