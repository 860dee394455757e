"""Every verb works where a machine lacks something: a locale with Hangul, a home folder, a network, a place to write.

Each environment is one process, which runs all verbs: importing torch takes longer than they do.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from torch.utils.data import DataLoader

from kovilt.engine.runner import KoviltRunner
from kovilt.errors import KoviltError

PROGRAM = Path(__file__).resolve().parents[1] / 'support' / 'every_verb.py'
NO_HANGUL = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
READ_ONLY = '/proc'  # not even root can create a file there
ENVIRONMENTS = {
    'locale C, home read-only': ({**NO_HANGUL, 'HOME': READ_ONLY}, 0o077),
    'a user of whom only the number is known': ({'NO_USER': '1', 'TMPDIR': '임시 tmp'}, 0o027),
}


def run_every_verb(folder: Path, variables: dict[str, str], umask: int) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in ('HOME', 'USER', 'LOGNAME')}
    paths = [str(PROGRAM.parents[2]), str(PROGRAM.parent)]
    environment |= {'PYTHONPATH': os.pathsep.join(paths), 'PYTHONUTF8': '1', 'OMP_NUM_THREADS': '1', **variables}
    with ExitStack() as stack:
        if 'TMPDIR' in variables:  # a short path: sockets of data-loader workers lie in it
            environment['TMPDIR'] = stack.enter_context(TemporaryDirectory(prefix=variables['TMPDIR'], dir='/tmp'))
        command = [sys.executable, PROGRAM, folder]
        return subprocess.run(command, capture_output=True, env=environment, cwd=READ_ONLY, umask=umask, timeout=300)


@pytest.mark.skipif(not os.path.isdir(READ_ONLY), reason='the read-only folder is that of Linux')
@pytest.mark.parametrize('name', ENVIRONMENTS)
def test_every_verb_works(name, tmp_path):
    variables, umask = ENVIRONMENTS[name]
    folder = tmp_path / '한글 folder'
    folder.mkdir()
    folder.chmod(0o777 & ~umask)
    done = run_every_verb(folder, variables, umask)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 and 'Traceback' not in output and 'Logging error' not in output, output[-3000:]
    results = json.loads((folder / 'results.json').read_text('utf-8'))
    assert set(results['codes'].values()) == {0} and not results['tried']

    asked, answered = output.split('$ predict\n')[1:]
    question = '소파는 무슨 색이에요?'
    if 'LC_ALL' in variables:
        assert output.isascii()
        question = question.encode('unicode_escape').decode()
    assert asked.startswith(question) and len(asked.splitlines()) > 1
    answer = json.loads(answered.splitlines()[0])['answer']
    assert answer in (folder / '모델 model' / 'config.json').read_text('utf-8')
    log = next((folder / '결과 run').glob('*/*.log')).read_text('utf-8')
    assert f"'{folder}/자료 rooms/vqa'" in log

    wrong = {}
    for parent, folders, files in os.walk(folder):
        for place, allowed in [(place, 0o777) for place in folders] + [(place, 0o666) for place in files]:
            mode = stat.S_IMODE(os.stat(os.path.join(parent, place)).st_mode)
            if mode != allowed & ~umask:
                wrong[os.path.join(parent, place)] = oct(mode)
    assert not wrong


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_is_named(tmp_path, monkeypatch):
    """Data-loader workers would wait for ever."""
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / ('긴' * 30)))
    loader = dict(dataset=[1, 2], batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    with pytest.raises(KoviltError, match='TMPDIR .*긴: its path has 1.. bytes'):
        KoviltRunner.build_dataloader({**loader, 'num_workers': 1})
    assert isinstance(KoviltRunner.build_dataloader({**loader, 'num_workers': 0}), DataLoader)
