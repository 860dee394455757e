import subprocess
import sys
import time
from pathlib import Path

import pytest

from kovilt.datasets import load_tokenizer
from tests.support.pair_data import Data

TOOL = Path(__file__).parents[2] / 'tools/data/train_tokenizer.py'


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True)


def test_it_trains_on_captions_questions_and_text_without_pictures(tmp_path):
    captions, questions = Data(tmp_path / 'captions'), Data(tmp_path / 'questions')
    captions.captions()
    questions.living(write_pictures=False)
    (tmp_path / 'more.txt').write_text('\ufeff탁자 밑에 공이 보여요\n\n탁자 밑에 책이 보여요\n', 'utf-8')
    done = run(tmp_path / 'korean', '--vocab-size', 120, '--captions', captions.root, '--questions', questions.root,
               '--text', tmp_path / 'more.txt')  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(' pieces')
    tokenizer = load_tokenizer(tmp_path / 'korean')
    for text in ('소파 위에 고양이가 있다.', '의자는 몇 개예요?', '탁자 밑에'):
        assert tokenizer.unk_token_id not in tokenizer(text)['input_ids']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['out', '--vocab-size', '100'], 'error: nothing to train on'),
        (['out', '--vocab-size', '100', '--captions', 'nowhere'], 'error: data_root nowhere: no such folder'),
        (['out', '--vocab-size', '100', '--text', 'nowhere.txt'], 'error: nowhere.txt: cannot be read'),
        (['out', '--vocab-size', 'many', '--text', 'x'], 'error: argument --vocab-size'),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1


def test_help_is_instant():
    start = time.perf_counter()
    assert run('--help').returncode == 0
    assert time.perf_counter() - start < 0.7
