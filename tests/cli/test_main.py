"""The command `kovilt`: its verbs, its help, and what it imports before a verb works."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kovilt.cli import main as command
from kovilt.cli.main import MODULES, VERBS, main, overview

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ('torch', 'torchvision', 'mmengine', 'mmcv', 'transformers', 'numpy', 'pyarrow', 'scipy', 'rich', 'PIL', 'cv2')
HEAVY += ('fastapi', 'gradio')
HELP_OF_ALL = f"""
import contextlib, io, json, sys
import kovilt.cli.main as command
for arguments in [['--help'], ['--version'], *([verb, '--help'] for verb in command.VERBS)]:
    with contextlib.redirect_stdout(out := io.StringIO()):
        try:
            code = command.main(arguments)
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([arguments, code, out.getvalue(), [name for name in {HEAVY} if name in sys.modules]]))
"""


def test_help_of_every_verb_comes_before_anything_heavy_is_imported():
    done = subprocess.run([sys.executable, '-c', HELP_OF_ALL], capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2 + len(VERBS)
    for arguments, code, out, heavy in answers:
        assert code == 0 and out and not heavy, arguments
        if arguments[0] in VERBS:
            assert out.startswith(f'usage: kovilt {arguments[0]} ') and '--debug' in out
            assert f'kovilt {arguments[0]}' in out.partition('\n\n')[2], 'an example'


def test_the_overview_imports_no_verb_and_takes_little_time():
    # -X importtime: microseconds, so that the time does not depend on what else the machine does in between.
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'kovilt', '--help'], capture_output=True, text=True, check=True
    )
    assert done.stdout == overview() + '\n'
    lines = [line.split('|') for line in done.stderr.splitlines() if line.startswith('import time:')]
    imported = {name.strip(): int(own.partition(':')[2]) for own, _, name in lines[1:]}
    assert {name for name in imported if name.startswith('kovilt')} <= {
        *(
            'kovilt',
            'kovilt.version',
            'kovilt.cli.process',
            'kovilt.errors',
            'kovilt.terminal',
            'kovilt.cli',
            'kovilt.cli.main',
            'kovilt.cli.arguments',
        )
    }
    assert not imported.keys() & set(HEAVY)
    assert sum(imported.values()) < 300_000


def test_every_verb_is_a_module_with_a_line_in_the_overview():
    for verb, line in VERBS.items():
        assert (Path(command.__file__).parent / f'{MODULES.get(verb, verb)}.py').is_file()
        assert re.search(rf'^  {verb} +{re.escape(line)}$', overview(), re.M)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['trian'], "error: kovilt trian: no such verb (did you mean 'train'?); kovilt --help lists them\n"),
        (['xyzzy'], 'error: kovilt xyzzy: no such verb; kovilt --help lists them\n'),
        (['rooms', 'out', '--image', '3', '--sed', '1'], 'error: unrecognized arguments: --sed 1\n'),
        (['train'], 'error: the following arguments are required: CONFIG\n'),
        (['train', 'nowhere'], 'error: nowhere: no such config file'),
    ],
)
def test_a_mistake_is_one_line_and_code_2(call, arguments, message):
    code, out, error = call(*arguments)
    assert (code, out) == (2, '') and error.startswith(message) and error.count('\n') == 1


def test_debug_shows_the_traceback(call):
    with pytest.raises(Exception, match='nowhere: no such config file'):
        main(['train', 'nowhere', '--debug'])


@pytest.mark.parametrize('verb', ['train', 'test', 'predict'])
def test_the_scripts_at_the_places_of_openmmlab_are_the_verbs(verb):
    script = [sys.executable, f'tools/{verb}.py', '--help']
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f'usage: kovilt {verb} ')


def test_a_script_without_kovilt_says_what_to_install(tmp_path):
    command = [sys.executable, '-I', '-S', str(ROOT / 'tools' / 'train.py'), '--help']  # -S: without site-packages
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and done.stderr == "error: No module named 'kovilt'; in the checkout run: pip install -e .\n"
    )
