"""Pipes, devices, floods, folders and links in place of files: every command refuses them at once, in one line."""

import os
import signal

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_checkpoint


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('model'))


@pytest.fixture(autouse=True)
def never_wait():
    """A command that waits for a pipe is interrupted, and the test fails."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def make_flood(path):
    with open(path, 'wb') as file:  # sparse: it takes no place
        file.truncate(40 << 30)


SPECIAL = {
    'a pipe': os.mkfifo,
    'a device': lambda path: path.symlink_to('/dev/zero'),
    'a flood': make_flood,
    'a folder': lambda path: path.mkdir(),
    'a link to itself': lambda path: path.symlink_to(path.name),
    'a link to nothing': lambda path: path.symlink_to('nowhere'),
}
COMMANDS = {
    'predict': lambda model, bad: ('predict', model, bad, '소파는 무슨 색이에요?'),
    'predict, model': lambda model, bad: ('predict', bad, 'room.png', '소파는 무슨 색이에요?'),
    'predict, config': lambda model, bad: ('predict', model, 'room.png', '소파?', '--config', bad),
    'verify': lambda model, bad: ('verify', bad),
    'train': lambda model, bad: ('train', bad),
    'compare': lambda model, bad: ('compare', bad, bad),
    'import': lambda model, bad: ('import', bad, 'out', '--tokenizer', 'tokenizer'),
    'export': lambda model, bad: ('export', bad, 'out'),
    'tokenizer': lambda model, bad: ('tokenizer', 'out', '--vocab-size', 100, '--text', bad),
    'config': lambda model, bad: ('config', bad),
}


@pytest.mark.parametrize('special', SPECIAL)
@pytest.mark.parametrize('command', COMMANDS)
def test_each_command_refuses_what_is_no_file(model, call, tmp_path, monkeypatch, command, special):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'room.png')
    bad = tmp_path / ('bad.py' if 'config' in command or command == 'train' else 'bad.pth')
    SPECIAL[special](bad)
    before = sorted(os.listdir(tmp_path))
    code, _, error = call(*COMMANDS[command](model, bad))
    assert code == 2 and 'Traceback' not in error and len(error.strip().splitlines()) == 1, error
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize('special', SPECIAL)
def test_a_table_that_is_no_file_is_one_error_of_the_data(call, tmp_path, special):
    (tmp_path / 'a.txt').touch()
    SPECIAL[special](tmp_path / 'train.jsonl')
    code, out, error = call('verify', tmp_path)
    assert code == 2 and 'Traceback' not in error and 'train.jsonl' in out + error


def test_verify_lists_images_that_are_no_files(call, tmp_path):
    rows = []
    for number, make in enumerate(SPECIAL.values()):
        make(tmp_path / f'{number}.png')
        rows.append(f'{{"image": "{number}.png", "question": "소파가 있어요?", "answer": "예"}}')
    (tmp_path / 'train.jsonl').write_text('\n'.join(rows))
    code, out, error = call('verify', tmp_path)
    assert code == 2 and 'leads to /dev/zero, which is outside' in error
    (tmp_path / '1.png').unlink()
    code, out, error = call('verify', tmp_path)
    assert code == 2 and 'Traceback' not in error and 'image.unreadable' in out
