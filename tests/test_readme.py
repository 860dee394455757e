"""The READMEs agree and fit on a screen; every command they show is run by `.ci/run` or by tests/test_docs.py.

The pages' links, scripts, verbs and configs exist.
"""

import re
import shlex
from pathlib import Path

import pytest

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


def read_page(name: str) -> str:
    return (ROOT / 'docs' / 'en' / f'{name}.md').read_text('utf-8')


def commands(text: str) -> list[str]:
    lines = '\n'.join(blocks(text, 'bash')).splitlines()
    return [line.split(' #')[0].strip() for line in lines if line.strip()]


SCRIPTS = {file.name for folder in ROOT.iterdir() if folder.name[0] != '.' for file in folder.rglob('*.[ps][yh]')}
COMMANDS = commands(READMES['en'])
MAKE = sorted({line for page in PAGES for line in commands(page.read_text('utf-8')) if line.startswith('make ')})


def test_both_languages_show_the_same_commands_code_tables_and_images():
    for language in ('bash', 'python'):
        assert blocks(READMES['en'], language) == blocks(READMES['ko'], language)
    shape = {name: re.findall(r'^#+ |^```|^!\[|^\|', text, re.M) for name, text in READMES.items()}
    assert shape['en'] == shape['ko']
    numbers = {name: set(re.findall(r'(?<![\w.])\d+\.\d+(?![\w.])', text, re.A)) for name, text in READMES.items()}
    assert numbers['en'] == numbers['ko']


def test_every_command_is_covered():
    run_by_tests = {line for page in ('own_images', 'predict') for line in commands(read_page(page))}
    assert set(COMMANDS) <= {*MAKE, *run_by_tests}


def test_a_readme_fits_on_a_screen():
    for text in READMES.values():
        assert text.count('\n') <= 60 and text.count('![') == 1


def test_ci_runs_what_make_is_told():
    script = (ROOT / '.ci' / 'run').read_text('utf-8')
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text('utf-8'), re.M)
    for line in MAKE:
        assert line.split()[1] in targets
    assert {'make test', 'make quickstart', 'make rooms', 'make docs'} <= {
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


def run(line: str) -> int:
    """The exit code of `kovilt VERB ...`, run in this process: torch is imported once."""
    command, *arguments = shlex.split(line)
    assert command == 'kovilt'
    return main(arguments)
