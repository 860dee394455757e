"""Many questions are answered as one by one, in their order, and an interrupted command continues without a loss."""

import json
import os
import signal
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny_models import (
    IMAGE_PIPELINE,
    MAX_TEXT_LEN,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)

from kovilt.apis import VQAInferencer, answer_file, precision
from kovilt.apis.answer_file import write_answers
from kovilt.apis.question_rows import read_question_rows
from kovilt.datasets.preparing_task import Task
from kovilt.errors import KoviltError, RunFault
from kovilt.weights import save_model_folder

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?', '책은 몇 개 ?']
KOREAN = '거실 사진.png'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for name, shape in (
        ('a.png', (40, 60, 3)),
        ('b.png', (64, 32, 3)),
        (unicodedata.normalize('NFD', KOREAN), (33, 90, 3)),
    ):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    return VQAInferencer(tiny_checkpoint(tmp_path_factory.mktemp('model')), device='cpu', batch_size=2)


@pytest.fixture
def table(folder, tmp_path):
    """20 questions on three images in mixed order, two of which cannot be answered."""
    lines = [
        {
            'image': ('a.png', KOREAN, 'b.png')[i % 3],
            'question': QUESTIONS[i % 2],
            'question_id': 100 + i,
            'answer': '네',
        }
        for i in range(20)
    ]
    lines[7]['image'], lines[11]['question'] = 'none.png', ' ?'
    path = folder / f'{tmp_path.name}.jsonl'
    path.write_text('\n'.join(json.dumps(line, ensure_ascii=False) for line in lines), encoding='utf-8')
    yield path
    path.unlink()


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]


@pytest.mark.parametrize('workers', [0, 2])
def test_each_row_has_the_answer_that_it_gets_alone(inferencer, table, folder, tmp_path, workers, monkeypatch):
    monkeypatch.setattr('kovilt.apis.answer_rows._BATCHES_OF_WINDOW', 2)
    rows, output = read_question_rows(table), tmp_path / 'answers.jsonl'
    summary = write_answers(inferencer, rows, output, topk=2, workers=workers)
    assert summary == (20, 2, 0, 0)
    lines = lines_of(output)
    assert [line['question_id'] for line in lines] == [str(100 + i) for i in range(20)]
    assert 'none.png: no such file' in lines[7]['error'] and 'punctuation only' in lines[11]['error']
    for row, line in zip(rows, lines, strict=True):
        assert (line['image'], line['question']) == (row.image, row.question)
        if 'error' not in line:
            (alone,) = inferencer(row.place, row.question, topk=2)
            assert line['score'] == pytest.approx(alone['score'], abs=1e-5) and line['answer'] == alone['answer']
            assert len(line['topk']) == 2 and line['unknown_token_share'] == alone['unknown_token_share']
    assert os.listdir(tmp_path) == ['answers.jsonl']


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Model folders of a ViLT and of a PrefixViLT, by the name of the encoder."""
    return {
        name: save_model_folder(
            tiny_model(type=name),
            tiny_tokenizer(),
            tmp_path_factory.mktemp('models') / name,
            model_cfg=tiny_config(type=name),
            image_pipeline=IMAGE_PIPELINE,
            max_text_len=MAX_TEXT_LEN,
        )
        for name in ('ViLT', 'PrefixViLT')
    }


@pytest.mark.parametrize('kind', ['float32', 'bfloat16', 'int8'])
@pytest.mark.parametrize('encoder', ['ViLT', 'PrefixViLT'])
def test_every_encoder_and_precision_answers_as_one_by_one(models, table, tmp_path, monkeypatch, encoder, kind):
    monkeypatch.setattr(precision, 'has_fast_bfloat16', lambda: True)
    inferencer = VQAInferencer(models[encoder], device='cpu', batch_size=3, precision=kind)
    rows, output = read_question_rows(table), tmp_path / 'answers.jsonl'
    assert write_answers(inferencer, rows, output, workers=0) == (20, 2, 0, 0)
    for row, line in zip(rows, lines_of(output), strict=True):
        if 'error' not in line:
            (alone,) = inferencer(row.place, row.question)
            scores = {one['answer']: one['score'] for one in alone['topk']}
            found = {one['answer']: one['score'] for one in line['topk']}
            assert found == pytest.approx(scores, abs=1e-5 if kind == 'float32' else 0.02)


@pytest.mark.parametrize('batch_size', [1, 3, 32])
def test_a_prefix_vilt_encodes_an_image_once_for_all_its_questions(models, table, tmp_path, monkeypatch, batch_size):
    """Two of three images fill more than a batch of one or of three questions."""
    inferencer = VQAInferencer(models['PrefixViLT'], device='cpu', batch_size=batch_size)
    encoder, encoded = inferencer.model.encoder, []
    embed_images = encoder.embed_images
    monkeypatch.setattr(encoder, 'embed_images', lambda p, grids: encoded.extend(grids) or embed_images(p, grids))
    write_answers(inferencer, read_question_rows(table), tmp_path / 'answers.jsonl', workers=0)
    assert len(encoded) == 3


def test_a_folder_and_its_zips_are_asked_the_same_questions(inferencer, folder, tmp_path):
    images = tmp_path / 'images'
    (images / 'more').mkdir(parents=True)
    (images / 'more' / 'b.png').write_bytes((folder / 'b.png').read_bytes())
    with zipfile.ZipFile(images / 'c.zip', 'w') as file:
        file.write(folder / 'a.png', 'a.png')
    rows = read_question_rows(images, questions=QUESTIONS[:2])
    assert [(row.image, row.question) for row in rows] == [
        (image, question) for image in ('c.zip/a.png', 'more/b.png') for question in QUESTIONS[:2]
    ]
    assert write_answers(inferencer, rows, tmp_path / 'out' / 'answers.jsonl', workers=0) == (4, 0, 0, 0)


@pytest.mark.parametrize('batches', [0, 1, 4])
@pytest.mark.parametrize('torn', [b'', b'13\t{"image": "a.p'])
def test_a_killed_command_continues_and_repeats_nothing(inferencer, table, tmp_path, batches, torn, monkeypatch):
    rows, whole, output = read_question_rows(table), tmp_path / 'whole.jsonl', tmp_path / 'answers.jsonl'
    write_answers(inferencer, rows, whole, workers=0)
    if (child := os.fork()) == 0:  # which is killed after some batches
        answered = []

        def stop(done, total):
            answered.append(done)
            if len(answered) > batches:
                os.kill(os.getpid(), signal.SIGKILL)

        write_answers(inferencer, rows, output, workers=0, progress=stop)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    part = tmp_path / 'answers.jsonl.partial-0'
    assert part.exists() == bool(batches) and not output.exists()
    if part.exists():
        with open(part, 'ab') as file:
            file.write(torn)
    asked = []
    write_answers(inferencer, rows, output, workers=0, progress=lambda done, total: asked.append(total))
    assert asked[0] == (20 if not batches else 20 - read_rows_of(batches, inferencer, rows))
    assert output.read_bytes() == whole.read_bytes() and not part.exists()


def read_rows_of(batches, inferencer, rows):
    windows = list(answer_file.make_windows(rows, inferencer.batch_size))
    results = answer_file.answer_windows(inferencer, windows, topk=5, workers=0)
    return sum(len(next(results)) for _ in range(batches))


def test_several_processes_share_the_rows_and_the_last_one_writes_the_output(inferencer, table, tmp_path, monkeypatch):
    monkeypatch.setattr('kovilt.apis.answer_rows._BATCHES_OF_WINDOW', 1)
    rows, whole, output = read_question_rows(table), tmp_path / 'whole.jsonl', tmp_path / 'answers.jsonl'
    write_answers(inferencer, rows, whole, workers=0)
    first = write_answers(inferencer, rows, output, workers=0, task=Task(0, 2))
    assert first.missing == 20 - first.rows > 0 and not output.exists()
    assert write_answers(inferencer, rows, output, workers=0, task=Task(1, 2)) == (20, 2, 0, 0)
    assert output.read_bytes() == whole.read_bytes()


def test_answers_of_another_model_or_other_questions_are_never_mixed(inferencer, table, tmp_path):
    rows, output = read_question_rows(table), tmp_path / 'answers.jsonl'
    write_answers(inferencer, rows, output, workers=0, task=Task(0, 2))
    part = tmp_path / 'answers.jsonl.partial-0'
    begun = part.read_bytes()
    with pytest.raises(KoviltError, match='partial-0: begun with another model, options or questions'):
        write_answers(inferencer, rows[:10], output, workers=0)
    with pytest.raises(KoviltError, match='begun with another model'):
        write_answers(inferencer, rows, output, workers=0, topk=1)
    part.write_bytes(begun.replace(b'\n', b'\nx', 2))
    with pytest.raises(KoviltError, match='damaged at byte'):
        write_answers(inferencer, rows, output, workers=0)
    assert write_answers(inferencer, rows, output, workers=0, overwrite=True).missing == 0
    with pytest.raises(KoviltError, match='exists; name another file, or add --overwrite'):
        write_answers(inferencer, rows, output, workers=0)


def test_a_full_disk_is_one_line_and_loses_no_answer(inferencer, table, tmp_path, monkeypatch):
    rows, output = read_question_rows(table), tmp_path / 'answers.jsonl'
    line, calls = answer_file._line, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 9:
            raise OSError(28, 'No space left on device')
        return line(*arguments)

    monkeypatch.setattr(answer_file, '_line', full)
    with pytest.raises(RunFault, match='No space left on device.*the same command continues'):
        write_answers(inferencer, rows, output, workers=0)
    assert write_answers(inferencer, rows, output, workers=0).rows == 20


def test_a_killed_worker_is_one_line_and_loses_no_answer(inferencer, table, tmp_path, monkeypatch):
    monkeypatch.setattr('kovilt.apis.answer_rows._BATCHES_OF_WINDOW', 1)
    rows, output = read_question_rows(table), tmp_path / 'answers.jsonl'
    read_question, main = inferencer.transforms.read_question, os.getpid()

    def die(text, choices=None):
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_question(text, choices)

    with monkeypatch.context() as patch:
        patch.setattr(inferencer.transforms, 'read_question', die)
        with pytest.raises(RunFault, match='process that reads images was killed.*repeat the command'):
            write_answers(inferencer, rows, output, workers=1)
    assert write_answers(inferencer, rows, output, workers=0).rows == 20


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"image": "a.png"}\n', "no key 'question'"),
        ('{"image": "a.png", "question": "네?"}\n{"image": "../b.png", "question": "네?"}\n', 'line 2.*leads out'),
        ('{"image": "a.png", "question": \n', 'line 1'),
        ('', 'no rows in it'),
    ],
)
def test_a_malformed_table_is_refused_before_anything_is_answered(tmp_path, content, message):
    path = tmp_path / 'questions.jsonl'
    path.write_text(content, encoding='utf-8')
    with pytest.raises(KoviltError, match=message):
        read_question_rows(path)
