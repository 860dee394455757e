"""Whatever writes is complete or not there, wherever the process is killed, and a repeated command completes it."""

from __future__ import annotations

import ast
import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

import kovilt
from kovilt.cli.main import main
from kovilt.datasets import load_tokenizer, prepare, train_tokenizer, verify_prepared
from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, read_json, write_json, write_json_lines
from kovilt.rooms import make_rooms
from kovilt.visualization import write_report
from kovilt.visualization.cards import save_sheet
from kovilt.weights import load_model_folder, save_model_folder
from kovilt.weights.image_detector import ImageDetector, store_image_detector
from tests.support.pair_data import TEXTS

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def run_in_child(work: Callable[[], object], allowed: int) -> bool:
    """Do some work in a child process that is killed after some writes; returns whether it was killed."""

    def count_down(event: str, arguments: tuple[Any, ...]) -> None:  # an audit hook sees every write of Python code
        nonlocal allowed
        if event in ('os.rename', 'os.mkdir', 'os.remove', 'os.rmdir', 'os.link', 'os.truncate') or (
            event == 'open' and arguments[2] & WRITING and not str(arguments[0]).startswith('/dev/')
        ):
            allowed -= 1
            if allowed < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            sys.addaudithook(count_down)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def content(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


# Name: a function that writes below a folder, and one that reads what is there if anything is.


def write_rooms(folder):
    make_rooms(folder / 'rooms', images=2, val_images=1, seed=0)


def write_rooms_zip(folder):
    make_rooms(folder / 'rooms', images=2, val_images=1, seed=0, zipped=True)


def write_tokenizer(folder):
    train_tokenizer(TEXTS, folder / 'tokenizer', vocab_size=200)


def write_tokenizer_beside(folder):
    (folder / 'tokenizer').mkdir(exist_ok=True)
    (folder / 'tokenizer' / 'notes.txt').touch()
    write_tokenizer(folder)


def write_model(folder):
    parts = dict(model_cfg=tiny_config(), image_pipeline=IMAGE_PIPELINE, max_text_len=MAX_TEXT_LEN)
    save_model_folder(tiny_model(), tiny_tokenizer(), folder / 'model', overwrite=True, **parts)


def write_lines(folder):
    write_json_lines(folder / 'predictions.jsonl', [{'answer': '예'}] * 3)


def write_pages(folder):
    parts = dict(title='a', lead='b', tables={}, images={}, sentences=[], footer='c')
    write_report(folder / 'report.html', **parts)
    save_sheet([Image.new('RGB', (8, 8))], folder / 'sheets' / 'sheet.png', columns=1)
    write_json(folder / 'metrics.json', {'accuracy': 1.0})


def check_images(folder):
    for file in folder.rglob('*.png'):
        Image.open(file).load()


WRITERS = {
    write_rooms: lambda folder: (folder / 'rooms').exists() and write_rooms(folder),
    write_rooms_zip: lambda folder: (folder / 'rooms').exists() and write_rooms_zip(folder),
    write_tokenizer: lambda folder: (folder / 'tokenizer').exists() and load_tokenizer(folder / 'tokenizer'),
    write_tokenizer_beside: lambda folder: None,
    write_model: lambda folder: (folder / 'model').exists() and load_model_folder(folder / 'model'),
    write_lines: lambda folder: None,
    write_pages: check_images,
}


def kill_everywhere(
    write: Callable[[Path], object], read: Callable[[Path], object], folder: Path, meanwhile: tuple[str, ...] = ()
) -> None:
    """Kill `write` at one write after the other, `read` what is there, and let a second try complete it.

    A file is there as it will be in the end or not at all, but for those with endings that are there `meanwhile`.
    """
    (whole := folder / 'whole').mkdir()
    write(whole)
    due, killed, points = content(whole), True, 0
    while killed:
        (place := folder / f'killed after {points}').mkdir()
        killed = run_in_child(lambda place=place: write(place), points)
        for name, digest in content(place).items():
            is_draft = '/.' in f'/{name}' or name.endswith(meanwhile)
            assert is_draft or digest == due.get(name), f'{name} after {points} writes'
        read(place)
        write(place)
        assert content(place) == due, f'after {points} writes'
        points += 1 if points < 6 else points // 3  # every early one, then some
    assert points > 3


@pytest.mark.parametrize('write', WRITERS, ids=lambda write: write.__name__)
def test_a_kill_leaves_nothing_half_written_and_the_next_try_completes_it(write, tmp_path):
    kill_everywhere(write, WRITERS[write], tmp_path)


def test_a_folder_that_is_replaced_is_the_old_or_the_new_one(tmp_path):
    def replace() -> None:
        with atomic_folder(tmp_path / 'model') as draft:
            (draft / 'new').touch()

    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'old').touch()
    found, points = [], 0
    while run_in_child(replace, points):
        found += os.listdir(tmp_path / 'model')
        points += 1
    assert found[-1] == 'new' and found.count('old') > 2 and set(found) == {'old', 'new'}
    replace()
    assert os.listdir(tmp_path) == ['model']


def test_a_detector_that_is_replaced_is_the_old_or_the_new_one(tmp_path):
    write_model(tmp_path)
    model = tmp_path / 'model'
    old, new = (ImageDetector(torch.full((16,), value), torch.eye(16), 1.0, 20) for value in (0.0, 1.0))
    found, points, killed = [], 0, True
    while killed:
        store_image_detector(model, old)
        killed = run_in_child(lambda: store_image_detector(model, new), points)
        found.append(float(load_model_folder(model).image_detector.mean[0]))
        points += 1
    assert found == sorted(found) and found.count(0.0) > 2 and found[-1] == 1.0
    assert len(list(model.glob('image_detector-*'))) == 1


def test_prepared_data_is_completed_by_the_same_command(rooms, tmp_path):
    images = [
        dict(type='LoadImage'),
        dict(type='ResizeViLT', short=64, long=107, divisor=16),
        dict(type='Patchify', patch_size=16),
    ]
    reader = dict(type='AIHubLivingReader', data_root=str(rooms / 'vqa'), split='train')
    answers = dict(min_count=1)
    config = dict(type='QuestionDataset', reader=reader, image_pipeline=images, text_pipeline=[], answers=answers)

    def read(folder: Path) -> None:
        if not (folder / 'prepared' / 'train' / 'rows.arrow').exists():
            with pytest.raises(KoviltError):
                verify_prepared(folder / 'prepared')

    def write(folder: Path) -> None:
        prepare(folder / 'prepared', {'train': config})

    kill_everywhere(write, read, tmp_path, meanwhile=('/prepared.json', '.state'))


def test_a_test_that_was_killed_is_repeated(run, tmp_path):
    results = ('metrics.json', 'predictions.jsonl')

    def test(folder: Path) -> None:
        work = ['--work-dir', str(folder), '--out', str(folder / 'predictions.jsonl')]
        assert main(['test', str(run / 'tiny.py'), str(run / 'run'), *work]) == 0

    test(tmp_path / 'whole')
    due = {name: content(tmp_path / 'whole')[name] for name in results[1:]}
    killed, points, found = True, 0, set()
    while killed:
        killed = run_in_child(lambda: test(tmp_path / 'killed'), points)
        there = content(tmp_path / 'killed')
        assert all(there.get(name, digest) == digest for name, digest in due.items())
        found.add(tuple(name for name in results if name in there))
        points += 9  # a test takes a second
    assert {(), results} <= found
    assert not [name for name in there if name.endswith('.tmp')]
    metrics = [read_json(tmp_path / name / 'metrics.json')['metrics'] for name in ('killed', 'whole')]
    assert metrics[0] == metrics[1]


# Calls that write, and where they may stand besides kovilt/files.py and drafts.py: in a folder that gets its name in
# the end, or where half a file does no harm. A call that names a `draft` of atomic_path or atomic_folder may stand
# anywhere.
WRITES = {
    *('.write_text', '.write_bytes', '.save', '.savefig', '.save_pretrained', '.rename', '.replace', '.new_file'),
    *('.touch', '.truncate', '.tofile', '.to_csv', '.open', '.symlink_to', '.link', '.copyfile', '.copytree', '.move'),
    *('.ZipFile', '.quantize_dynamic', 'torch.onnx.export', 'save_file', 'open', 'append_text'),
}
ALLOWED = {
    'apis/answer_file.py': {"open(path, 'ab')", 'file.truncate(end)'},  # ends at its last whole line when it is read
    'apis/loading.py': {'dataclasses.replace(trained, model=model.eval(), info=info)'},  # of a value
    'cli/explain.py': {'explanation.save(args.out)'},  # by atomic_path
    'datasets/data_set_files.py': {  # in a draft
        "path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + '\\n', encoding='utf-8')"
    },
    'datasets/preparing.py': {'vocabulary.save(out / ANSWER_FILE)'},  # by write_json
    'datasets/tokenizer_training.py': {'trained.save_pretrained(made)'},  # in the temporary folder
    'engine/distributed.py': {  # for the launcher of this process, in a temporary folder
        "Path(os.environ[LAUNCH_FOLDER], 'begun').touch()",
        "Path(os.environ[LAUNCH_FOLDER], 'exit_code').write_text(str(code), encoding='ascii')",
    },
    'engine/hooks/run_record.py': {"append_text(self.path, ''.join(self._unwritten))"},  # whole lines
    'engine/work_dir.py': {"open(path, 'a+', encoding='utf-8')", 'file.truncate(0)'},  # the lock, for people
    'formats/checkpoint.py': {'torch.save(checkpoint, file)'},  # a draft that is open
    'formats/tensor_files.py': {
        'path.touch()',
        "save_file(dict(tensors), path, metadata={'format': 'pt'})",
    },  # in a draft
    'recipes/steps.py': {"open(self.log, 'a', encoding='utf-8')"},
    'rooms/write.py': {  # in a draft
        "path.open('w', encoding='utf-8', newline='\\n')",
        "path.write_text(labels, encoding='utf-8')",
        "pixels.save(buffer, 'JPEG', quality=JPEG_QUALITY)",
        'os.link(source, target)',
        'shutil.copyfile(source, target)',
        'target.write_bytes(buffer.getvalue())',
        "zipfile.ZipFile(folder / f'[라벨]{subset}.zip', 'w')",
        "zipfile.ZipFile(folder / f'{subset}.zip', 'w')",
    },
    'serving/demo/tabs.py': {  # in the temporary folder of the demo
        "draw_scene(scene, 0, 'val', index)[0].save(file, 'JPEG', quality=90)"
    },
    'visualization/curves.py': {"figure.savefig(buffer, format='png')"},  # these four in memory
    'visualization/explanation.py': {"image.save(buffer, 'JPEG', quality=90)"},
    'visualization/reliability.py': {"figure.savefig(buffer, format='svg', metadata={'Date': None})"},
    'visualization/report.py': {"image.save(buffer, 'JPEG', quality=80)"},
    'verification/page.py': {"image.save(buffer, 'JPEG', quality=80)"},  # in memory
    'weights/graph_files.py': {  # in a draft
        'file.rename(float_file)',
        'torch.export.save(program, file)',
        'torch.onnx.export(program, kwargs=dict(program.example_inputs[1]), f=file, dynamo=True, verbose=False, '
        "external_data=False, dynamic_shapes=dict(shapes), input_names=list(shapes), output_names=['scores'])",
        'quantization.quantize_dynamic(float_file, file, per_channel=True, '
        'weight_type=quantization.QuantType.QInt8, extra_options=dict(MatMulConstBOnly=True))',
    },
}
MODES = {'w', 'wb', 'a', 'ab', 'a+', 'x', 'xb', 'r+b'}


def writing_calls(source: str) -> Iterator[str]:
    """The calls in a program that write a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = {value.value for value in values if isinstance(value, ast.Constant)}
        if not WRITES & {name, f'.{name.rpartition(".")[2]}' if '.' in name else ''}:
            continue
        if name.rpartition('.')[2] in ('open', 'ZipFile') and not texts & MODES:
            continue
        if (name.endswith('.replace') and len(values) == 2) or name == 'layout.rename':  # of a text, of tensors
            continue
        if {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & {'draft'}:  # of an atomic_path
            continue
        yield ast.unparse(node)


def test_no_other_place_writes_files():
    package = Path(kovilt.__file__).parent
    sources = {str(file.relative_to(package)): file.read_text('utf-8') for file in package.rglob('*.py')}
    found = {name: set(writing_calls(source)) for name, source in sources.items()}
    del found['files.py'], found['drafts.py']
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED


@pytest.mark.parametrize(
    'call', ["open(path, 'w')", "path.open('ab')", 'path.write_bytes(b)', 'torch.save(a, b)', 'a.replace(b)']
)
def test_a_raw_call_would_be_found(call):
    assert list(writing_calls(f'value = f({call})')) == [call]
    assert not list(writing_calls(f'value = f({call})'.replace('path', 'draft').replace('b)', 'draft)')))
