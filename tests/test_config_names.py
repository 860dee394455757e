"""A config is found by its path or by its name among those of kovilt, wherever the command is typed."""

from pathlib import Path

import pytest

from kovilt import config_names
from kovilt.config_names import find_config
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('name', ['rooms/vqa', 'rooms/vqa.py', 'kovilt::rooms/vqa.py', CONFIGS / 'rooms' / 'vqa.py'])
def test_a_name_and_a_path_lead_to_the_file(name):
    assert find_config(name) == CONFIGS / 'rooms' / 'vqa.py'
    assert load_config(name).model.type == 'ViLTForVQA'


def test_a_file_of_the_current_folder_comes_first(tmp_path):
    (tmp_path / 'rooms').mkdir()
    (tmp_path / 'rooms' / 'vqa.py').write_text('a = 1')
    assert find_config('rooms/vqa.py') == Path('rooms/vqa.py')
    assert find_config('rooms/vqa') == CONFIGS / 'rooms' / 'vqa.py'  # a folder may have the name of a config


def test_every_entry_has_a_name():
    names = config_names.config_names()
    entries = [file for file in CONFIGS.rglob('*.py') if '_base_' not in file.parts]
    assert entries and {names[file.relative_to(CONFIGS).with_suffix('').as_posix()] for file in entries} == {*entries}


def test_an_installed_package_has_the_configs_inside(tmp_path, monkeypatch):
    own = tmp_path / 'site' / 'kovilt' / '.mim' / 'configs'
    own.mkdir(parents=True)
    (own / 'only.py').write_text('')
    monkeypatch.setattr(config_names.kovilt, '__file__', str(tmp_path / 'site' / 'kovilt' / '__init__.py'))
    assert find_config('only') == own / 'only.py'
    with pytest.raises(KoviltError, match=r'rooms/vqa: no such config file; `kovilt config` lists'):
        find_config('rooms/vqa')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('rooms/vqaa', "no such config file (did you mean 'rooms/vqa'?)"),
        ('kovilt_vqa_aihb.py', "no such config file (did you mean 'kovilt_vqa_aihub'?)"),
        ('configs/rooms/vqa.py', "no such config file (did you mean 'rooms/vqa'?)"),
        ('../rooms/vqa', "no such config file (did you mean 'rooms/vqa'?)"),
        ('mine.p', "no such config file (did you mean 'mine.py'?)"),
        ('notes.txt', 'not a config file, which ends in .py'),
        ('quite something else', 'no such config file; `kovilt config` lists those of kovilt'),
    ],
)
def test_what_is_no_config_is_one_line_with_the_nearest_name(name, message, tmp_path):
    (tmp_path / 'mine.py').write_text('')
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(KoviltError) as caught:
        find_config(name)
    assert str(caught.value).startswith(f'{name}: {message}') and '\n' not in str(caught.value)
