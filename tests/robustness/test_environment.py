"""What an environment variable or an option of the command line says is text: no config runs a part of it."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from tiny_rooms import CONFIGS

from kovilt.engine.config import load_config
from kovilt.engine.config_files import escape_braces
from kovilt.engine.config_origins import ConfigOrigins
from kovilt.errors import KoviltError

ENTRIES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
NAMES = {name for file in CONFIGS.rglob('*.py') for name in re.findall(r"'(KOVILT_\w+)'", file.read_text('utf-8'))}
HOSTILE = [
    "it's",
    'say "hello"',
    "x' + __import__('os').system('touch mark') + '",
    "{{$HOME:'+open('mark', 'w').name+'}}",
    '{{ fileDirname }}',
    '{{_base_.model}}',
    '}}{{',
    '{{{x}}}',
    'back\\slash\\',
    '\\g<0>\\1\\U0000',
    'two\nlines',
    'carriage\rreturn',
    '$HOME ${HOME} %s {0}',
    '한글 경로/자료',
    '😀\u202e\u200b',
    '# comment',
    "'''",
    '"""',
    '',
]


def values_of(config):
    """Every text in a config."""
    if isinstance(config, dict):
        return [text for value in config.values() for text in values_of(value)]
    if isinstance(config, (list, tuple)):
        return [text for value in config for text in values_of(value)]
    return [config] if isinstance(config, str) else []


def test_no_config_has_anything_pasted_into_it():
    for file in (*CONFIGS.rglob('*.py'), *(CONFIGS.parent / 'examples').rglob('*.py')):
        assert '{{' not in file.read_text('utf-8'), file


@pytest.mark.parametrize('value', HOSTILE, ids=repr)
def test_a_variable_is_a_value_in_every_config(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setenv(name, value)
    found = set()
    for entry in ENTRIES if value == HOSTILE[0] else ENTRIES[:2]:
        config = load_config(entry)
        texts = [text for text in values_of(config.to_dict()) if text.startswith(value)]
        assert texts, entry
        found.update(texts)
    ConfigOrigins(entry)
    (tmp_path / 'saved.py').write_text(escape_braces(config.pretty_text), encoding='utf-8')
    assert load_config(tmp_path / 'saved.py').to_dict() == config.to_dict()
    (tmp_path / 'saved.py').unlink()
    assert value in found or f'{value}/vqa' in found
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters='\0'), max_size=30))
def test_any_text_survives_being_saved_and_read_again(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / 'any.py'
    config = Config(dict(a=text, b=[text, dict(c=text)], d={'e f': text, 1: (text,)}))
    file.write_text(escape_braces(config.pretty_text), encoding='utf-8')
    assert Config.fromfile(file).to_dict() == config.to_dict()


@pytest.mark.parametrize('value', [value for value in HOSTILE if set(value) & set('\'"\\\n\r{}')], ids=repr)
def test_a_config_that_has_mmengine_paste_is_refused_a_value_that_is_more_than_text(value, tmp_path, monkeypatch):
    """The pasting of MMEngine stays for the user's own configs."""
    text = "_base_ = {base!r}\nwork_dir = '{{{{$MINE:here}}}}'\n"
    (tmp_path / 'mine.py').write_text(text.format(base=str(CONFIGS / 'rooms/vqa.py')), encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MINE', 'work dirs/한글')
    assert load_config('mine.py').work_dir == 'work dirs/한글'
    monkeypatch.setenv('MINE', value)
    with pytest.raises(KoviltError, match=r'\$MINE.*os\.environ\.get') as caught:
        load_config('mine.py')
    assert '\n' not in str(caught.value)
    assert os.listdir(tmp_path) == ['mine.py']


def test_a_path_that_is_pasted_is_refused_likewise(tmp_path):
    folder = tmp_path / "it's"
    folder.mkdir()
    for name in ('fileDirname', 'fileBasename'):
        (folder / 'mine.py').write_text(
            f"_base_ = {str(CONFIGS / 'rooms/vqa.py')!r}\nwork_dir = '{{{{ {name} }}}}'\n", encoding='utf-8'
        )
        with pytest.raises(KoviltError, match='the path of the file'):
            load_config(folder / 'mine.py')


@pytest.mark.parametrize('value', HOSTILE, ids=repr)
def test_an_option_of_the_command_line_is_a_value(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry, option = CONFIGS / 'rooms/vqa.py', 'val_dataloader.dataset.reader.data_root'
    for text in (value, repr(value)):
        config = load_config(entry, [f'{option}={text}'])
        assert config.val_dataloader.dataset.reader.data_root in (value, value.strip())
    assert not list(tmp_path.iterdir())
