"""`kovilt train FOLDER` gets from a folder of photographs to a judged model, without a network, and continues."""

import json
import os
import runpy
import shlex
import socket
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from fake_hub import REVISION, fake_hub
from PIL import Image
from public_models import VILT, randomised, saved
from recipe_steps import run_steps_here
from tiny_models import tiny_tokenizer
from transformers import ViltForQuestionAnswering

from kovilt.apis import VQAInferencer
from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.files import read_json, read_json_lines, write_json, write_json_lines
from kovilt.recipes import own_images, own_images_run
from kovilt.recipes.commands import SHIPPED_ENCODER
from kovilt.recipes.own_images import Choices, Schedule, Start
from kovilt.recipes.own_images_run import read_result, result_lines
from kovilt.weights import load_model_folder

COLOURS = {'빨간색': (255, 60, 60), '파란색': (60, 60, 255)}
FEW_STEPS = ['train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']


def write_folder(folder, images=10, val=False, questions=('제독의 사진은 무슨 색이에요?', '제독님이 있어요?')):
    """Parts of a portrait in the public domain, which matplotlib carries, in two tints."""
    folder.mkdir()
    portrait = Image.open(matplotlib.cbook.get_sample_data('grace_hopper.jpg'))
    rng = np.random.default_rng(0)
    rows = []
    for number in range(images):
        colour = list(COLOURS)[number % 2]
        left, upper = rng.integers(0, 200, 2).tolist()
        part = portrait.crop((left, upper, left + 250, upper + 300))
        Image.blend(part, Image.new('RGB', part.size, COLOURS[colour]), 0.5).save(folder / f'사진 {number}.jpg')
        rows += [
            {'image': f'사진 {number}.jpg', 'question': questions[0], 'answer': colour},
            {'image': f'사진 {number}.jpg', 'question': questions[1], 'answer': '예'},
        ]
    split = -4 if val else len(rows)
    for name, part in (('train', rows[:split]), ('val', rows[split:])):
        if part:
            lines = [json.dumps(row, ensure_ascii=False) for row in part]
            (folder / f'{name}.jsonl').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return folder


@pytest.fixture
def within(monkeypatch):
    """The steps run in this process, which has everything imported, and no socket connects."""

    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX:  # by which processes share tensors
            raise OSError('no network')
        connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    return run_steps_here(monkeypatch)


def test_from_a_folder_to_a_judged_model(tmp_path, within, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('KOVILT_NO_REPORT')
    folder = write_folder(tmp_path / '내 사진')
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    code, out, error = call('train', '내 사진', '--cfg-options', *FEW_STEPS)
    assert code == 0, error
    assert within == ['train', 'question_only', 'train_test', 'question_only_test', 'model']
    work = tmp_path / 'work_dirs' / '내 사진'
    plan = read_json(work / 'plan.json')['lines']
    assert len(plan) <= 15 and all(line in out for line in plan)
    assert '16 questions on 8 images' in out and '4 questions on 2 images, 20% of the images kept for validation' in out
    assert 'the packaged encoder; tokenizer: the packaged one and' in out and '0.0% unknown' in out
    result = read_json(work / 'result.json')
    reports = list(work.rglob('report.html'))
    assert reports == [work / 'train' / 'report.html'] and 'work_dirs/내 사진/train/report.html' in out
    assert result['questions'] == 4 and f'{result["accuracy"]:.2f} %' in out and 'without images' in out

    assert count_tokens(load_tokenizer(work / 'model'), ['제독의 사진은', '제독님이']).unknown_share == 0
    code, out, error = call('predict', work / 'model', folder / '사진 0.jpg', '제독님이 있어요?', '--json')
    assert code == 0 and json.loads(out)['unknown_token_share'] == 0, error
    assert call('export', work / 'train', tmp_path / 'exported')[0] == 0

    assert call('train', '내 사진', '--cfg-options', *FEW_STEPS)[0] == 0
    assert len(within) == 5  # nothing runs twice
    code, _, error = call('train', '내 사진', '--seed', 1)
    assert code == 2 and 'holds the training of other data or options' in error
    steps_taken = read_json_lines(work / 'train' / 'metrics.jsonl', 'table')
    assert max(row['step'] for _, row in steps_taken) == 2
    written = (work / '내 사진.py').read_text('utf-8')
    monkeypatch.chdir(folder)  # the config alone says everything, wherever it is repeated
    code, out, error = call('train', work / '내 사진.py', '--no-report')
    assert code == 0, error
    assert (work / 'again' / 'iter_2.pth').is_file() and (work / '내 사진.py').read_text('utf-8') == written
    first, again = (read_json_lines(run / 'metrics.jsonl', 'table') for run in (work / 'train', work / 'again'))
    assert [row['vqa_loss'] for _, row in first if 'vqa_loss' in row] == pytest.approx(
        [row['vqa_loss'] for _, row in again if 'vqa_loss' in row]
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_options_stand_in_the_config(tmp_path):
    data = own_images.Data({'train': 40, 'val': 8}, {}, {'예': 40}, 1.0, [], 0.2, '')
    choices, start = Choices('x'), Start(SHIPPED_ENCODER, True, '')
    options = ['model.encoder.drop_rate=0.3', 'custom_hooks.1.patience=2', 'optim_wrapper.optimizer.lr=0.5']
    for given in ((), options):
        arguments = (choices, data, start, Schedule.of(40, start, choices, 0.1), 'A plan.')
        own_images.write_config(tmp_path / 'x.py', *arguments, options=given)
    for name in ('x.py', 'question_only.py'):
        config = load_config(tmp_path / name)
        assert config.model.encoder.drop_rate == 0.3 and config.optim_wrapper.optimizer.lr == 0.5
        assert [hook.get('patience') for hook in config.custom_hooks] == [None, 2]


def test_errors_of_the_data_stop_before_training_and_name_their_place(tmp_path, within, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / 'mine')
    (folder / '사진 3.jpg').write_bytes(b'no image')
    code, _, error = call('train', 'mine')
    assert code == 2 and '사진 3.jpg' in error and 'kovilt verify mine lists all' in error and not within
    write_folder(tmp_path / 'other')
    (tmp_path / 'other' / '사진 3.jpg').replace(folder / '사진 3.jpg')
    monkeypatch.setattr(own_images_run, 'run_steps', lambda steps, work_dir: {}['reached'])
    with pytest.raises(KeyError, match='reached'):  # the mended folder is planned anew in the same work folder
        own_images_run.train_folder(Choices('mine'), tmp_path / 'work_dirs' / 'mine', workers=1, show=print)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--amp',), '--amp is for a config'),
        (('--force',), '--force is for a config'),
        (('--allow-change', 'data'), '--allow-change is for a config'),
        (('--work-dir', 'question_only'), 'question_only: its config would have the name of another file'),
        (
            ('--model', 'none'),
            'kovilt carries; those are rooms, rooms_encoder; or give small, base, a folder, or OWNER/NAME',
        ),
        (('--model', 'some/vilt'), 'run: hf download some/vilt --local-dir FOLDER, and name that FOLDER here'),
        (('--model', 'rooms_encoder', '--tokenizer', 'x'), 'a model folder with its tokenizer; leave out --tokenizer'),
        (('--tokenizer', './x'), 'tokenizer ./x: no such file or folder'),
        (('--bert', 'x'), '--bert goes with public weights, --model FOLDER or OWNER/NAME on the hub'),
        (('--launcher', 'pytorch'), 'one process trains a folder'),
        (('--minutes', '-1'), '--minutes -1: give a number above 0'),
        (('--minutes', 'nan'), '--minutes nan: give a number above 0'),
    ],
)
def test_arguments_that_do_not_fit_a_folder(tmp_path, within, call, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / 'mine', images=2)
    code, _, error = call('train', 'mine', *arguments)
    assert code == 2 and message in error and error.count('\n') == 1 and not within


def test_no_report_reaches_the_steps(tmp_path, call, monkeypatch):
    monkeypatch.setenv('KOVILT_NO_REPORT', '')
    seen = []
    monkeypatch.setattr(own_images_run, 'train_folder', lambda *_, **__: seen.append(os.environ['KOVILT_NO_REPORT']))
    write_folder(tmp_path / 'mine', images=2)
    for options in ((), ('--no-report',)):
        assert call('train', tmp_path / 'mine', *options)[0] == 0
    assert seen == ['', '1']


@pytest.mark.parametrize(
    ('info', 'message'),
    [
        (
            {'graph': {'format': 'onnx'}},
            'holds a graph, which is not trained; name the model that it was exported from',
        ),
        ({'model': {'type': 'METERForVQA'}}, 'holds a METERForVQA; give a ViLT, or train METER by a config'),
    ],
)
def test_a_model_folder_that_cannot_be_continued_is_refused(tmp_path, monkeypatch, info, message):
    (tmp_path / 'kovilt.json').write_text('{}')
    monkeypatch.setattr(own_images, 'read_folder_info', lambda path: info)
    with pytest.raises(KoviltError, match=message):
        own_images.make_start(Choices('x', model=str(tmp_path)), data_of(['의자가 있어요?']), tmp_path / 'start')


def test_arguments_of_a_folder_do_not_fit_a_config(call):
    code, _, error = call('train', 'rooms/vqa', '--minutes', 3)
    assert code == 2 and error == 'error: --minutes is for a folder of images; rooms/vqa is a config\n'


def test_texts_in_another_language_start_from_random_weights(tmp_path):
    data = own_images.Data({'train': 2}, {'train': 1}, {}, 1.0, ['What is on the table?', 'Which colour?'], 0.2, '')
    start = own_images.make_start(Choices('x', model='small'), data, tmp_path / 'start')
    assert not start.weights and 'random weights' in start.text
    korean = own_images.make_start(Choices('x', model='small'), data_of(['소파는 무슨 색이에요?']), tmp_path / 'korean')
    assert korean.weights


def test_another_tokenizer_keeps_the_words_that_it_shares_with_the_packaged_one(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / 'tiny')
    choices = Choices('x', model='small', tokenizer=str(tmp_path / 'tiny'))
    start = own_images.make_start(choices, data_of(['소파는 무슨 색이에요?']), tmp_path / 'start')
    assert start.weights and f'tokenizer: {tmp_path / "tiny"}, 0.0% unknown' in start.text
    ours, theirs = (load_tokenizer(folder).get_vocab() for folder in (start.folder, SHIPPED_ENCODER))
    new, old = (
        load_model_folder(folder).model.encoder.text.word_embed.weight for folder in (start.folder, SHIPPED_ENCODER)
    )
    assert ours == tiny_tokenizer().get_vocab() and torch.equal(new[ours['소파']], old[theirs['소파']])
    assert torch.equal(new[ours['[MASK]']], old[theirs['[MASK]']])


def test_a_vilt_of_the_hub_with_other_answers_gives_its_encoder(tmp_path, within, call, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    vqa = randomised(ViltForQuestionAnswering(VILT))
    fake_hub(monkeypatch, tmp_path / 'cache', {'some/vilt-vqa': saved(vqa, tmp_path / 'there')})
    write_folder(tmp_path / 'mine', questions=('소파는 무슨 색이에요?', '의자가 있어요?'))
    run_steps = own_images_run.run_steps
    monkeypatch.setattr(own_images_run, 'run_steps', lambda steps, work_dir: run_steps(steps[:1], work_dir)['done'])
    with pytest.raises(KeyError, match='done'):  # its training alone, without the evaluation
        call('train', 'mine', '--model', 'some/vilt-vqa', '--cfg-options', *FEW_STEPS)
    out = capsys.readouterr().out
    assert f'start       some/vilt-vqa, revision {REVISION}; tokenizer: its own' in out and 'memory      about' in out
    config = load_config(tmp_path / 'work_dirs' / 'mine' / 'mine.py')
    assert config.load_encoder_only and [hook['type'] for hook in config.custom_hooks] == ['EarlyStoppingHook']
    image = tmp_path / 'mine' / '사진 0.jpg'
    (answer,) = VQAInferencer(tmp_path / 'work_dirs' / 'mine' / 'train')(image, '의자가 있어요?', topk=1)
    assert answer['answer'] in ('예', *COLOURS)


def test_images_that_do_not_fit_into_memory_are_read_by_workers(tmp_path):
    data = own_images.Data({'train': 40, 'val': 8}, {}, {'예': 40}, 1.0, [], 0.2, '')
    choices, start = Choices('x'), Start(SHIPPED_ENCODER, True, '')
    schedule = Schedule.of(40, start, choices, 0.1)
    own_images.write_config(
        tmp_path / 'x.py', choices, data, start, schedule, 'A plan.', cache_images=False, num_workers=3
    )
    loader = load_config(tmp_path / 'x.py').train_dataloader
    assert loader.num_workers == 3 and loader.persistent_workers and not loader.dataset.cache_images


def data_of(texts):
    return own_images.Data({'train': len(texts)}, {'train': 1}, {}, 1.0, texts, 0.2, '')


def test_the_schedule_keeps_to_the_minutes_and_to_the_epochs():
    start = Start(SHIPPED_ENCODER, True, '')
    assert Schedule.of(10_000, start, Choices('x', minutes=10), step_seconds=0.5).steps == 600
    assert Schedule.of(320, start, Choices('x', epochs=3), step_seconds=0.5).steps == 30
    assert Schedule.of(64, start, Choices('x'), step_seconds=0.01).steps == 400
    assert Schedule.of(64, Start('', False, ''), Choices('x'), 0.01).optimizer['lr'] > 1e-3


@pytest.mark.parametrize(
    ('interval', 'words'),
    [((1.0, 9.0), 'The images bring'), ((-2.0, 3.0), 'do not help measurably'), ((-9.0, -1.0), 'ended below training')],
)
def test_the_result_says_what_the_images_brought(tmp_path, interval, words):
    result = dict.fromkeys(
        ('accuracy', 'accuracy_low', 'accuracy_high', 'majority_accuracy', 'ceiling', 'question_only_accuracy'), 50.0
    )
    result |= {'questions': 4, 'images_bring': sum(interval) / 2, 'images_bring_interval': interval}
    text = '\n'.join(result_lines(result, tmp_path / 'x.py', tmp_path))
    assert words in text and ('--model' in text) == (interval[0] <= 0)


@pytest.mark.parametrize(
    ('seeing', 'blind', 'words'),
    [
        (8, 4, 'The images bring +40.0 points'),
        (5, 5, 'do not help measurably'),
        (3, 7, 'images ended below training without'),
    ],
)
def test_what_the_images_brought_is_read_from_the_predictions(tmp_path, seeing, blind, words):
    """40 images with 10 questions each, of which as many are answered correctly, partly the same ones."""
    keys = ('accuracy_low', 'accuracy_high', 'majority_accuracy', 'ceiling')
    metrics = {'questions': 400} | dict.fromkeys(keys, 50.0)
    for name, right in (('train', seeing), ('question_only', blind)):
        rows = [
            {
                **{key: f'{image}_{number}' for key in ('question_id', 'ground_truth', 'answer_type')},
                'image': str(image),
                **dict.fromkeys(('correct', 'tolerant_correct'), (number + image * (name == 'train')) % 10 < right),
            }
            for image in range(40)
            for number in range(10)
        ]
        write_json_lines(tmp_path / f'{name}_test' / 'predictions.jsonl', rows)
        write_json(tmp_path / f'{name}_test' / 'metrics.json', {'metrics': metrics | {'accuracy': 10.0 * right}})
    result = read_result(tmp_path)
    assert result['images_bring'] == pytest.approx(10 * (seeing - blind))
    assert result['accuracy'] == 10 * seeing and result['question_only_accuracy'] == 10 * blind
    assert words in '\n'.join(result_lines(result, tmp_path / 'x.py', tmp_path))


@pytest.mark.parametrize('model', ['auto', 'base'])
def test_with_a_gpu_the_base_size_is_trained_and_the_plan_says_from_what(tmp_path, monkeypatch, model):
    with_gpu = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(own_images, 'torch', with_gpu)  # of the plan alone: the weights here are read on the CPU
    choices, data = Choices('x', model=model), data_of(['소파는 무슨 색이에요?'] * 20_000)
    start = own_images.make_start(choices, data, tmp_path / 'start')
    assert start.encoder['hidden_size'] == 768 and not start.weights
    assert start.text.startswith('base size from random weights')
    assert ('because there is a GPU; small sets learn more with --model small' in start.text) == (model == 'auto')
    schedule = Schedule.of(20_000, start, choices, step_seconds=9.0)
    assert schedule.steps == 30 * 625 and schedule.optimizer['type'] == 'AdamW'  # no ten minutes as on a CPU
    own_images.write_config(tmp_path / 'x.py', choices, data, start, schedule, 'A plan.')
    config = load_config(tmp_path / 'x.py')
    assert (config.model.encoder.num_layers, config.load_from) == (12, None)
    assert config.optim_wrapper.precision == 'bfloat16'
    small = own_images.make_start(Choices('x', model='small'), data_of(['소파는 무슨 색이에요?']), tmp_path / 'small')
    assert small.weights and small.encoder is None


def test_the_next_commands_can_be_typed_and_name_what_is_there(tmp_path):
    keys = ('accuracy', 'accuracy_low', 'accuracy_high', 'majority_accuracy', 'ceiling', 'question_only_accuracy')
    result = dict.fromkeys(keys, 50.0) | {'questions': 4, 'images_bring': 2.0, 'images_bring_interval': (1.0, 3.0)}
    work = tmp_path / "kim's images"
    lines = result_lines(result, work / 'x.py', work)
    (command,) = (shlex.split(line, comments=True) for line in lines if 'kovilt predict' in line)
    assert command == ['kovilt', 'predict', f'{work}/model', 'IMAGE', '질문']
    (command,) = (shlex.split(line.split('#')[0]) for line in lines if 'kovilt train' in line)
    assert command == ['kovilt', 'train', f'{work}/x.py']
    assert 'report' not in '\n'.join(lines)
    (work / 'train').mkdir(parents=True)
    (work / 'train' / 'report.html').write_text('')
    assert f'  report: {work}/train/report.html' in result_lines(result, work / 'x.py', work)


def test_the_config_is_readable_python(tmp_path):
    data = own_images.Data({'train': 40, 'val': 8}, {}, {'예': 40}, 1.0, [], 0.2, '')
    schedule = Schedule.of(40, Start('start', True, ''), Choices('x'), 0.1)
    choices = Choices('x', image_size=128)
    own_images.write_config(tmp_path / 'x.py', choices, data, Start('start', True, ''), schedule, 'A plan.')
    values = runpy.run_path(str(tmp_path / 'x.py'))
    assert values['train_cfg']['max_iters'] == schedule.steps and values['__doc__'].startswith('A plan.')
    assert values['train_dataloader']['dataset']['image_pipeline'][1]['short'] == 128


@pytest.mark.parametrize('text', ['"""', '""""', r'\N', r'\u12 \x', "it's 'so'", 'a\\'])
def test_the_config_is_python_whatever_names_and_answers_are(tmp_path, text):
    data = own_images.Data({'train': 40, 'val': 8}, {}, {'예': 40}, 1.0, [], 0.2, '')
    start, choices = Start(SHIPPED_ENCODER, True, ''), Choices("kim's")
    file = tmp_path / "kim's.py"
    about = f'plan\n  answers     3; {text} most often'
    own_images.write_config(file, choices, data, start, Schedule.of(40, start, choices, 0.1), about)
    assert runpy.run_path(str(file))['__doc__'] == f'{about}\n'
    for config in (file, file.with_name('question_only.py')):
        assert load_config(config).train_dataloader.dataset.reader.data_root.endswith("/kim's")


def test_an_image_smaller_than_a_patch_is_refused(tmp_path):
    data = own_images.Data({'train': 40, 'val': 8}, {}, {'예': 40}, 1.0, [], 0.2, '')
    start, choices = Start('start', False, '', encoder=dict(own_images._BASE)), Choices('x', image_size=16)
    schedule = Schedule.of(40, start, choices, 0.1)
    with pytest.raises(KoviltError, match='--image-size 16: a patch of this model has 32 pixels a side'):
        own_images.write_config(tmp_path / 'x.py', choices, data, start, schedule, '')
    assert not (tmp_path / 'x.py').exists()


def test_a_folder_of_parquet_files_is_planned_like_any_other(tmp_path, within, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    source = write_folder(tmp_path / 'source')
    rows = [row for _, row in read_json_lines(source / 'train.jsonl', 'table')]
    cells = [{'bytes': (source / row['image']).read_bytes(), 'path': row['image']} for row in rows]
    kind = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    table = {'사진': pa.array(cells, kind), 'question': [row['question'] for row in rows]}
    (tmp_path / 'mine').mkdir()
    pq.write_table(pa.table(table | {'answer': [row['answer'] for row in rows]}), tmp_path / 'mine' / 'kvqa.parquet')
    monkeypatch.setattr(own_images_run, 'run_steps', lambda steps, work_dir: {}['reached'])
    lines = []
    with pytest.raises(KeyError, match='reached'):
        choices = Choices('mine', columns={'image': '사진'})
        own_images_run.train_folder(choices, tmp_path / 'work', workers=1, show=lines.append)
    assert 'validation  4 questions on 2 images, 20% of the images kept' in '\n'.join(lines)
    reader = load_config(tmp_path / 'work' / 'work.py').train_dataloader.dataset.reader
    assert reader == {
        'type': 'ParquetReader', 'data_root': str(tmp_path / 'mine'), 'val_share': 0.2, 'val_seed': 0,
        'columns': {'image': '사진'}, 'split': 'train',
    }  # fmt: skip


def test_a_folder_without_training_questions_is_told(tmp_path, call):
    for name, message in (('mine', 'no data set that kovilt knows'), ('none', 'no such config file')):
        if name == 'mine':
            (tmp_path / name).mkdir()
            (tmp_path / name / 'a.txt').touch()
        code, _, error = call('train', tmp_path / name)
        assert code == 2 and message in error
    (tmp_path / 'mine' / 'val.jsonl').write_text('{"image": "a.png", "question": "뭐?", "answer": "공"}\n', 'utf-8')
    code, _, error = call('train', tmp_path / 'mine')
    assert code == 2 and "mine: no training questions, only 'val'" in error
