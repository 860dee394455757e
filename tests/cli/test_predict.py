"""The command line answers as the API does, shows its help at once, and refuses bad input in one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_checkpoint

from kovilt.apis import VQAInferencer, export_checkpoint

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?']


def start(*arguments, python=()):
    command = [sys.executable, *python, '-m', 'kovilt', 'predict', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('predict')
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'room.png')
    return tiny_checkpoint(folder), folder / 'room.png'


def test_json_is_what_the_api_returns_and_nothing_else_is_imported(files, tmp_path):
    model, image = files
    folder = export_checkpoint(model, tmp_path / 'model')
    done = start(folder, image, *QUESTIONS, '--topk', 2, '--json', '--device', 'cpu', python=('-X', 'importtime'))
    assert done.returncode == 0, done.stderr
    expected = VQAInferencer(model, device='cpu')(image, QUESTIONS, topk=2)
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert {'torch', 'kovilt.apis'} <= imported
    unused = {'mmpretrain', 'matplotlib', 'ot', 'mmengine.runner', 'torchvision', 'onnxruntime', 'transformers.models'}
    assert not imported & unused


def test_an_exported_folder_gives_the_same_answers_as_text(files, tmp_path, call):
    model, image = files
    code, out, _ = call('export', model, tmp_path / 'model')
    assert code == 0 and str(tmp_path / 'model') in out
    code, out, _ = call('predict', tmp_path / 'model', image, *QUESTIONS, '--topk', 2)
    assert code == 0
    lines = out.splitlines()
    assert [lines[0], lines[3]] == QUESTIONS and len(lines) == 6
    best = VQAInferencer(model)(image, QUESTIONS[0])[0]
    assert lines[1].split('  ')[1].strip() == best['answer'] and lines[1].endswith(f'{100 * best["score"]:.2f} %')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('none', 'room.png', '의자?'), 'error: none: no such model folder or checkpoint'),
        (('MODEL', 'none.jpg', '의자?'), 'error: image 0: none.jpg: no such file'),
        (('MODEL', 'IMAGE', ' '), 'error: question 0: it is empty; give text'),
        (('MODEL', 'IMAGE', '의자?', '--topk', '0'), 'error: topk=0'),
        (('MODEL', 'IMAGE', '의자?', '--config', 'none.py'), 'error: none.py: no such config file'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, call, arguments, message):
    known = {'MODEL': files[0], 'IMAGE': files[1]}
    code, out, error = call('predict', *(known.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, '')
    assert error.startswith(message) and error.count('\n') == 1
