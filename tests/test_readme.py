"""The READMEs agree, and every command they show is run: by `.ci/run`, or here at a size of seconds."""

import os
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from kovilt.cli.main import VERBS, main
from kovilt.config_names import config_names

ROOT = Path(__file__).resolve().parents[1]
READMES = {
    language: (ROOT / name).read_text('utf-8') for language, name in (('en', 'README.md'), ('ko', 'README.ko.md'))
}
PAGES = [
    *sorted((ROOT / 'docs').rglob('*.md')),
    *(ROOT / name for name in ('README.md', 'README.ko.md', 'CONTRIBUTING.md')),
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.M | re.S)


def commands(text: str) -> list[str]:
    lines = '\n'.join(blocks(text, 'bash')).splitlines()
    return [line.split(' #')[0].strip() for line in lines if line.strip()]


SCRIPTS = {file.name for folder in ROOT.iterdir() if folder.name[0] != '.' for file in folder.rglob('*.[ps][yh]')}
COMMANDS = commands(READMES['en'])
BY_CI = [line for line in COMMANDS if line.startswith('make ')]
ON_ROOMS = [line for line in COMMANDS if 'rooms' in line and line not in BY_CI]
ASKING = [line for line in COMMANDS if line.startswith('kovilt predict')]
FULL_SIZE = [line for line in COMMANDS if re.search(r' kovilt_(vqa|pretrain)', line)]


def test_both_languages_show_the_same_commands_code_tables_and_images():
    for language in ('bash', 'python'):
        assert blocks(READMES['en'], language) == blocks(READMES['ko'], language)
    shape = {name: re.findall(r'^#+ |^```|^!\[|^\|', text, re.M) for name, text in READMES.items()}
    assert shape['en'] == shape['ko']
    numbers = {name: set(re.findall(r'(?<![\w.])\d+\.\d+(?![\w.])', text, re.A)) for name, text in READMES.items()}
    assert numbers['en'] == numbers['ko']


def test_every_command_is_covered():
    assert set(COMMANDS) == {*BY_CI, *ON_ROOMS, *ASKING, *FULL_SIZE}


def test_ci_runs_what_make_is_told():
    script = (ROOT / '.ci' / 'run').read_text('utf-8')
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text('utf-8'), re.M)
    for line in BY_CI:
        assert line.split()[1] in targets
    assert {'make test', 'make quickstart'} <= {
        line.strip().split(' 2>')[0].split(' SCALE')[0] for line in script.splitlines()
    }


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_scripts_verbs_and_configs_of_a_page_exist(page):
    text = page.read_text('utf-8')
    for link in re.findall(r'\]\((?!https?:|#)([^)#]+)', text):
        assert (page.parent / link).exists(), link
    for file in re.findall(r'(?<!\w/)\b(?:tools|configs)/[\w/]+\.(?:py|sh)\b', text):
        assert (ROOT / file).is_file(), file
    for script in re.findall(r'\b\w+\.(?:py|sh)\b', re.sub(r'\bwork_dirs/[\w/.]+', '', text)):
        assert script in SCRIPTS or f'# {script}\n' in text, script  # or the page shows its content
    spans = [*blocks(text, 'bash'), *re.findall(r'(?<!`)`(?!`)([^`\n]+)`', text)]
    for verb, config in re.findall(
        r'(?:^|[= ])kovilt ([a-z]+)(?: (kovilt_\w+|meter_\w+|rooms/\w+))?', '\n'.join(spans), re.M
    ):
        assert verb in VERBS, verb
        assert not config or config in config_names(), config


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in which the README's commands run, with data and work folders of its own."""
    Image.new('RGB', (320, 240), 'tan').save(tmp_path / 'room.jpg')
    for name in [name for name in os.environ if name.startswith('KOVILT_') and name != 'KOVILT_NO_REPORT']:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> int:
    """The exit code of `kovilt VERB ...`, run in this process: torch is imported once."""
    command, *arguments = shlex.split(line)
    assert command == 'kovilt'
    return main(arguments)


def smaller(line: str) -> str:
    """The command at a size of seconds."""
    line = line.replace('--images 2000', '--images 24').replace('iter_2000', 'iter_2')
    line = line.replace('work_dirs/quickstart/model', 'work_dirs/vqa/iter_2.pth')
    if line.startswith('kovilt train'):
        line += ' --cfg-options train_cfg.max_iters=2 train_cfg.val_interval=2'
    return line


def test_the_commands_from_drawing_rooms_to_an_answer(checkout, capsys):
    for line in ON_ROOMS:
        assert run(smaller(line)) == 0, line
    capsys.readouterr()
    assert len(ASKING) == 2  # the packaged model, and one's own
    for line in ASKING:
        assert run(smaller(line)) == 0
        assert len(re.findall(r'^  \S+ +\d+\.\d+ %$', capsys.readouterr().out, re.M)) == 5
    (code,) = blocks(READMES['en'], 'python')
    exec(smaller(code), {})
    assert len(re.findall(r'^\S+ 0\.\d+$', capsys.readouterr().out, re.M)) == 2


@pytest.mark.parametrize('line', FULL_SIZE)
def test_a_full_size_command_without_its_files_says_what_is_missing(line, checkout, capsys):
    """What dist_train.sh adds is tested in tests/tools/test_dist.py."""
    assert run(re.sub(r'^bash tools/dist_train.sh (\S+) 8', r'kovilt train \1', line)) == 2
    (error,) = re.findall(r'^error: (.*)$', capsys.readouterr().err, re.M)
    assert 'aihub.or.kr' in error or 'epoch_10.pth: no such' in error
    assert not (checkout / 'work_dirs').exists()
