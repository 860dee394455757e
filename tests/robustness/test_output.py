"""What is printed holds nothing that a terminal obeys, and every encoding can print it."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_models import ANSWERS, IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.errors import KoviltError, KoviltWarning, run_cli
from kovilt.evaluation.table import format_table
from kovilt.terminal import json_line, printable, set_up_output
from kovilt.visualization import write_report
from kovilt.weights import save_model_folder
from tests.support.pair_data import Data

BAD = ['\x1b[2J', '\x1b]0;title\x07', '\x9b31m', '\x08\x08', '\r', '\n', '\u202e', '\u2066', '\u2028', '\x7f', '\ufeff']
QUESTION = '소파는 무슨 색 이에요 ?'


def is_safe(output: str) -> bool:
    return all(line == printable(line) for line in output.split('\n'))


@given(st.text(st.characters(categories=None, codec=None)))
def test_printable_text_draws_all_of_its_characters(text):
    shown = printable(text)
    assert printable(shown) == shown and '\n' not in shown and '\x1b' not in shown
    assert shown.encode('utf-8').decode() == shown
    assert json.loads(json_line(text)) == text and '\x9b' not in json_line(text)


def test_what_can_be_read_stays_as_it_is():
    for text in ('소파는 무슨 색이에요?', 'C:\\사진\\1.jpg', '豊 😀 café ㅋㅋ', '한\u3000글'):
        assert printable(text) == text
    assert printable('a\tb\nc', keep='\n\t') == 'a\tb\nc'
    assert printable('\x1b[2J\u202e\n\udcbc') == '\\x1b[2J\\u202e\\n\\udcbc'


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    """A model from elsewhere, whose answers would clear the screen, reverse it and add a line."""
    answers = [f'{answer}{bad}' for answer, bad in zip(ANSWERS, BAD, strict=False)]
    folder = tmp_path_factory.mktemp('models')
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / 'room.png')
    return save_model_folder(
        tiny_model(answers=answers),
        tiny_tokenizer(),
        folder / 'vqa',
        model_cfg=tiny_config(),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@pytest.mark.filterwarnings('ignore::kovilt.errors.KoviltWarning')
def test_answers_and_questions_of_predict_are_escaped(model, call):
    question = f'{QUESTION}\x1b[2J\u202e\n\x9b'
    code, out, err = call('predict', model, model.parent / 'room.png', question, '--device', 'cpu')
    assert code == 0 and is_safe(out) and is_safe(err) and len(out.splitlines()) == 1 + len(ANSWERS)
    assert out.splitlines()[0] == f'{QUESTION}\\x1b[2J\\u202e\\n\\x9b' and '\\x1b[2J  ' in out
    code, out, err = call('predict', model, model.parent / 'room.png', question, '--json', '--device', 'cpu')
    assert code == 0 and is_safe(out) and len(out.splitlines()) == 1
    assert {row['answer'] for row in json.loads(out)['topk']} >= {f'{ANSWERS[0]}{BAD[0]}', f'{ANSWERS[2]}{BAD[2]}'}


def test_warnings_of_predict_are_lines_of_their_own(model, call):
    with pytest.warns(KoviltWarning) as caught:
        code, *_ = call('predict', model, model.parent / 'room.png', '책 ' * 20, 'hello?', '--device', 'cpu')
    assert code == 0
    assert [warnings.formatwarning(found.message, found.category, 'x.py', 1) for found in caught] == [
        'warning: question 0: only its first 10 of 20 tokens are read\n',
        'warning: question 1: no Hangul in it; the model has learned Korean questions\n',
        'warning: question 1: 50% of its tokens are unknown to the model, so the answer is a guess\n',
    ]
    assert warnings.formatwarning(KoviltWarning('\x1b[2J\n'), KoviltWarning, 'x.py', 1) == 'warning: \\x1b[2J\\n\n'
    assert 'x.py:1: UserWarning: text' in warnings.formatwarning(UserWarning('text'), UserWarning, 'x.py', 1)


@pytest.mark.parametrize('bad', BAD)
def test_error_lines_are_escaped(call, bad):
    for arguments in (
        ('predict', f'no{bad}model', 'x.jpg', '의자?'),
        ('predict', 'model', 'x.jpg', '의자?', '--topk', f'x{bad}'),
        ('verify', f'no{bad}where'),
        ('train', f'no{bad}config.py'),
        (f'no{bad}verb',),
        ('export', f'no{bad}model', 'out'),
        ('compare', f'a{bad}.jsonl', 'b.jsonl'),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, '') and err.startswith('error: ') and err.count('\n') == 1 and is_safe(err), arguments


def test_verify_escapes_paths_and_texts(tmp_path, call):
    data = Data(tmp_path / 'da\x1b[31mta\u202e\n')
    data.image('0.png', size=(48, 36))
    rows = [
        {'image': '0.png', 'question': f'소파\x1b]0;x\x07{n}\u202e가 <br>?', 'answer': '예\u2066&amp;'}
        for n in range(3)
    ]
    for split in ('train', 'val'):
        data.write(f'{split}.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    code, out, _ = call('verify', data.root, '--workers', 1, '--json', tmp_path / 'report.json')
    assert code == 2 and 'text.markup' in out and '\\x1b[31mta\\u202e\\n' in out and is_safe(out)
    assert json.loads((tmp_path / 'report.json').read_text('utf-8'))['counts']['answer.markup']


@pytest.mark.parametrize('place', ['{}/data', 'data/{}/1.png', 'data/{}.png'])
def test_names_that_are_not_utf_8_are_named(tmp_path, call, place):
    """A name in CP949, as old zips leave it, is text with half characters in Python, which no table can hold."""
    data = Data(tmp_path / place.split('data')[0].format(bad := os.fsdecode('사진'.encode('cp949'))) / 'data')
    data.image('0.png', size=(48, 36))
    row = {'image': '0.png', 'question': '소파가 있어요?', 'answer': '예'}
    for split in ('train', 'val'):
        data.write(f'{split}.jsonl', json.dumps(row) + '\n')
    if place.startswith('data'):
        data.image(place.removeprefix('data/').format(bad), size=(48, 36))
    code, out, err = call('verify', data.root, '--workers', 1, '--json', tmp_path / 'report.json')
    assert code == 2 and is_safe(out + err)
    assert '\\udcbb\\udce7' in out + err and 'its name is not UTF-8; convmv -r -f cp949 -t utf-8' in out + err


def test_tables_and_logs_are_escaped(capsys):
    assert '\\x1b[2J' in format_table(['answer type', 'n'], [['색\x1b[2J', '3']])
    set_up_output()
    handler = logging.StreamHandler(stream := io.StringIO())
    logger = logging.Logger('kovilt-test')
    logger.addHandler(handler)
    logger.handle(
        logging.getLogRecordFactory()('x', 20, 'f', 1, 'broken image: %s\nnext', ('a\x1b[2J\u202e.jpg',), None)
    )
    assert stream.getvalue() == 'broken image: a\\x1b[2J\\u202e.jpg\nnext\n'


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'latin-1', 'cp949', 'utf-8'])
def test_any_encoding_prints_hangul_and_half_characters(monkeypatch, encoding):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ('stdout', 'stderr')}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def main() -> None:
        print('소파 \udcbc 😀')
        print(json_line({'answer': '소파 😀'}))
        raise KoviltError('사진/\udcbc.jpg: no such image')

    code = run_cli(main)
    shown = {}
    for name, stream in streams.items():
        stream.flush()
        shown[name] = stream.buffer.getvalue().decode(encoding)
    assert code == 2 and json.loads(shown['stdout'].splitlines()[1]) == {'answer': '소파 😀'}
    error = shown['stderr']
    assert error.startswith('error: ') and error.endswith('/\\udcbc.jpg: no such image\n') and error.count('\n') == 1


@pytest.mark.parametrize('environment', [{'PYTHONIOENCODING': 'ascii'}, {'PYTHONIOENCODING': 'cp1252'}, {
    'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    'arguments, code', [(('predict', '--help'), 0), (('의자\udcbc',), 2), (('predict', '의자'), 2)]
)
def test_a_process_without_hangul_ends_well(environment, arguments, code):
    program = 'import sys; from kovilt.cli.main import main; sys.exit(main())'
    command = [sys.executable, '-c', program, *arguments]
    done = subprocess.run(command, capture_output=True, env=os.environ | environment)
    assert done.returncode == code and b'Traceback' not in done.stderr
    assert (done.stdout if code == 0 else done.stderr).isascii()


def test_the_html_report_escapes_every_text(tmp_path):
    script = '<script>alert("1")</script>&'
    page = write_report(
        tmp_path / 'report.html',
        title=script,
        lead=script,
        tables={script: ([script], [[script]])},
        images={},
        sentences=[script],
        footer=script,
    ).read_text('utf-8')
    assert '<script>' not in page and page.count('&lt;script&gt;') >= 7
