"""The command line answers as the API does, shows its help at once, and refuses bad input in one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_models import ANSWERS, tiny_checkpoint

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
    results = VQAInferencer(model, device='cpu')(image, QUESTIONS, topk=2)
    expected = [{'image': str(image), 'question': q} | result for q, result in zip(QUESTIONS, results, strict=True)]
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
        (('MODEL',), 'error: give IMAGE and QUESTION, or --input and --output'),
        (('MODEL', 'IMAGE'), 'error: give IMAGE and QUESTION, or --input and --output'),
        (
            ('MODEL', 'IMAGE', '의자?', '--input', 'IMAGE', '--output', 'a'),
            'error: give IMAGE and QUESTION, or --input',
        ),
        (('MODEL', '--input', 'FOLDER'), 'error: --input and --output go together: give both'),
        (('MODEL', '--input', 'FOLDER', '--output', 'a'), 'error: FOLDER: a folder of images needs a question'),
        (('MODEL', '--input', 'IMAGE', '--output', 'a'), 'error: IMAGE: neither a folder nor a table'),
        (('MODEL', '--input', 'none.jsonl', '--output', 'a'), 'error: none.jsonl: no such file'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, call, arguments, message):
    known = {'MODEL': files[0], 'IMAGE': files[1], 'FOLDER': files[1].parent}
    message = ': '.join(str(known.get(part, part)) for part in message.split(': '))
    code, out, error = call('predict', *(known.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, '')
    assert error.startswith(message) and error.count('\n') == 1


def test_a_folder_of_images_is_answered_into_a_file(files, call, tmp_path):
    model, image = files
    output = tmp_path / 'answers.jsonl'
    arguments = (model, '--input', image.parent, '--question', QUESTIONS[0], '--output', output, '--workers', 1)
    code, out, _ = call('predict', *arguments)
    assert (code, out.split(', in ')[0]) == (0, f'{output}: 1 questions')
    (line,) = map(json.loads, output.read_text(encoding='utf-8').splitlines())
    assert (line['image'], line['question']) == ('room.png', QUESTIONS[0]) and len(line['topk']) == len(ANSWERS)
    code, _, error = call('predict', *arguments)
    assert code == 2 and error.endswith(f'error: {output}: exists; name another file, or add --overwrite\n')
    image.with_name('broken.jpg').write_text('no image')
    table = image.with_name('questions.csv')
    table.write_text(f'image,question\nbroken.jpg,{QUESTIONS[0]}\n', encoding='utf-8')
    code, _, error = call('predict', model, '--input', table, '--output', output, '--overwrite')
    assert code == 2 and error.endswith(f'error: {output}: no question could be answered; its lines say why\n')


def test_processes_of_torchrun_share_the_questions(files, call, tmp_path, monkeypatch):
    model, image = files
    monkeypatch.setattr('kovilt.apis.answer_rows._BATCHES_OF_WINDOW', 1)
    folder = tmp_path / 'images'
    folder.mkdir()
    for name in 'abcd':
        (folder / f'{name}.png').write_bytes(image.read_bytes())
    arguments = ['--input', folder, '--question', QUESTIONS[0], '--batch-size', 1, '--workers', 1]
    assert call('predict', model, *arguments, '--output', tmp_path / 'alone.jsonl')[0] == 0
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank, words in ((1, 'task 2 of 2 is done; 2 questions of other tasks are missing'), (0, ': 4 questions, in ')):
        monkeypatch.setenv('RANK', str(rank))
        code, out, error = call('predict', model, *arguments, '--output', tmp_path / 'shared.jsonl')
        assert code == 0 and words in out, error
    assert (tmp_path / 'shared.jsonl').read_bytes() == (tmp_path / 'alone.jsonl').read_bytes()
