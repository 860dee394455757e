"""A model that kovilt carries is named by its name alone, wherever a command takes a model; a path goes first."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import ANSWERS, tiny_checkpoint

from kovilt import model_names
from kovilt.apis import VQAInferencer, export_checkpoint
from kovilt.cli.test import default_work_dir
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.engine.checkpoints import read_checkpoint
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import choose_checkpoint
from kovilt.model_names import find_model, packaged_models


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    return export_checkpoint(tiny_checkpoint(folder), folder / 'halls', dtype='float16')


@pytest.fixture
def packaged(exported, tmp_path, monkeypatch):
    """Kovilt carries one model, 'halls', and the current folder is empty. Returns the model's folder."""
    monkeypatch.setattr(model_names, 'ASSETS', exported.parent)
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    return exported


def test_a_name_is_a_path_first_and_a_packaged_model_next(packaged):
    assert packaged_models() == {'halls': packaged}
    assert find_model('halls') == choose_checkpoint('halls') == packaged
    assert find_model('halls.pth') == Path('halls.pth') and find_model('models/halls') == Path('models/halls')
    shutil.copytree(packaged, 'halls')
    assert find_model('halls') == Path('halls') and VQAInferencer('halls').source == 'halls'


@pytest.mark.parametrize(('name', 'hint'), [('hals', " (did you mean 'halls'?)"), ('kitchens', '')])
def test_an_unknown_name_lists_the_packaged_models(packaged, call, name, hint):
    with pytest.raises(KoviltError) as error:
        find_model(name)
    assert str(error.value).endswith(f'nor a model that kovilt carries{hint}; those are halls')
    code, out, said = call('predict', name, 'room.jpg', '의자가 있어요?')
    assert (code, out, said) == (2, '', f'error: {error.value}\n')


def test_the_home_of_an_unknown_user_is_a_path_to_nothing(packaged, call):
    assert find_model('~nobody-here/model') == Path('~nobody-here/model')
    code, _, said = call('predict', '~nobody-here/model', 'room.jpg', '의자가 있어요?')
    assert code == 2 and said.startswith('error: ~nobody-here/model: ') and said.count('\n') == 1


def test_every_verb_that_takes_a_model_takes_its_name(packaged, rooms, call):
    Image.new('RGB', (40, 30), 'tan').save('room.png')
    code, out, said = call('predict', 'halls', 'room.png', '의자가 있어요?', '--topk', 1)
    assert code == 0 and out.split()[-3] in ANSWERS and str(packaged) in said
    assert VQAInferencer('halls').source == str(packaged)
    code, out, said = call('explain', 'halls', 'room.png', '의자가 있어요?')
    assert code == 0 and 'most relevant patch' in out and str(packaged) in said
    assert call('export', 'halls', 'copy')[0] == 0 and VQAInferencer('copy').answers == ANSWERS
    code, _, said = call('alignment', 'halls', rooms, '--out', 'alignment')
    assert code == 2 and 'halls: holds a ViLTForVQA, a ViLTForPreTraining is needed here' in said
    assert default_work_dir(find_model('halls')) == Path('work_dirs/halls_test')  # nothing is written into the package
    assert load_tokenizer('halls').get_vocab() == load_tokenizer('copy').get_vocab()
    assert read_checkpoint('halls')['meta']['model_type'] == 'ViLTForVQA'  # --load-from, and load_from of a config
