"""The benchmark's sets are what `kovilt train FOLDER` reads, and their answers are right."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import own_images
from benchmarks.own_images import _options
from benchmarks.own_images_sets import TINTS, compose, write_set
from kovilt.errors import KoviltError
from kovilt.files import write_json

COLORS = {'고양이': (250, 120, 0), '컵': (0, 120, 120), '책': (120, 0, 200), '공': (10, 10, 10)}


@pytest.fixture
def images(tmp_path):
    for name, color in COLORS.items():
        Image.new('RGB', (120, 90), color).save(tmp_path / f'{name}.png')
    return tmp_path


def test_a_set_of_composed_images(images, tmp_path):
    for out in ('a', 'b'):
        write_set(images, tmp_path / out, images=8, seed=3, pairs=0.5)
    rows = [json.loads(line) for line in (tmp_path / 'a' / 'train.jsonl').read_text('utf-8').splitlines()]
    assert (tmp_path / 'a' / 'train.jsonl').read_bytes() == (tmp_path / 'b' / 'train.jsonl').read_bytes()
    assert len({row['image'] for row in rows}) == 8
    others = [json.loads(line) for line in (tmp_path / 'a' / 'val.jsonl').read_text('utf-8').splitlines()]
    assert len({row['image'] for row in others}) == 100
    assert {row['answer'] for row in others if row['question'].startswith('왼쪽')} == set(COLORS)
    exists = [row['answer'] for row in rows if '있어요?' in row['question'] and row['answer'] in ('네', '아니요')]
    assert exists.count('네') == exists.count('아니요') == 8


def test_noise_takes_the_place_of_the_images_alone(images, tmp_path):
    for noise in (False, True):
        write_set(images, tmp_path / str(noise), images=4, seed=3, noise=noise)
    names = {file.name for file in (tmp_path / 'True').iterdir()}
    assert names == {file.name for file in (tmp_path / 'False').iterdir()}
    for name in names:
        plain, noisy = (tmp_path / kind / name for kind in ('False', 'True'))
        assert (plain.read_bytes() == noisy.read_bytes()) == name.endswith('.jsonl')
        if name.endswith('.jpg'):
            assert np.asarray(Image.open(noisy).convert('L')).std() > 25 and Image.open(noisy).size == (400, 300)


def test_what_is_on_the_left_is_told_as_left():
    """The colour in the middle of each half is that of the thing, in its tint."""
    things = {name: Image.new('RGB', (400, 300), color) for name, color in COLORS.items()}
    rng, pairs = np.random.default_rng(0), 0
    for _ in range(30):
        image, shown = compose(things, 0.5, rng)
        for place, (name, tint) in enumerate(shown):
            width = 400 // len(shown)
            half = np.asarray(image.crop((place * width, 0, (place + 1) * width, 300))).reshape(-1, 3)
            due = 0.65 * np.array(COLORS[name]) + 0.35 * np.array(TINTS[tint])
            assert (np.abs(half - due).max(1) < 3).mean() > 0.15
        pairs += len(shown) == 2
    assert 5 < pairs < 25


def test_too_few_things_and_changes_of_the_rule(tmp_path):
    with pytest.raises(KoviltError, match='0 images; at least 4 are needed'):
        write_set(tmp_path, tmp_path / 'out', images=4, seed=0)
    assert list(_options('rule')) == list(_options('scratch')) == []
    assert list(_options('lr=3e-4,drop=0.3')) == ['optim_wrapper.optimizer.lr=3e-4', 'model.encoder.drop_rate=0.3']
    with pytest.raises(
        KoviltError, match="--variants rul: 'rul' is no variant; give rule, scratch, distort, or KEY=VALUE"
    ):
        list(_options('rul'))


def test_the_whole_command_is_compared_with_its_training_without_images(images, call_benchmark, tmp_path, monkeypatch):
    def train(command):
        assert command[2:4] == ['train', str(tmp_path / 'kept' / f'{images.name}_0_noise_4_7')]
        accuracies = dict.fromkeys(('accuracy', 'question_only_accuracy', 'majority_accuracy'), 25.0)
        bring = {'images_bring': -1.5, 'images_bring_interval': [-4.0, 1.0]}
        write_json(Path(command[command.index('--work-dir') + 1], 'result.json'), accuracies | bring)
        return 61.2

    monkeypatch.setattr(own_images, 'run_kovilt', train)
    arguments = ('--images', 4, '--seeds', 7, '--noise', '--without-images', '--keep', tmp_path / 'kept')
    code, out, error = call_benchmark('own_images', images, *arguments)
    assert code == 0 and '| 4 | 7 | 25.0 | 25.0 | 25.0 | -1.5 (-4.0 to +1.0) | 61 s |' in out, error


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--pairs', '1.5'), 'argument --pairs: must be 0 to 1, not 1.5'),
        (('--pairs', 'nan'), 'argument --pairs: must be 0 to 1, not nan'),
        (('--minutes', '0'), 'argument --minutes: must be above 0, not 0'),
        (('--minutes', 'inf'), 'argument --minutes: must be above 0, not inf'),
        (('--images', '1'), 'argument --images: must be at least 2, not 1'),
        (('--without-images', '--variants', 'rule'), 'argument --without-images: the command follows the rule'),
        (('--variants', 'rule', 'lr3e-4'), "--variants lr3e-4: 'lr3e-4' is no variant"),
        ((), 'none: no such folder'),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(call_benchmark, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, error = call_benchmark('own_images', 'none', '--keep', 'kept', *arguments)
    assert (code, out) == (2, '') and error.startswith(f'error: {message}') and error.count('\n') == 1
    assert not (tmp_path / 'kept').exists()


def test_rooms_with_too_few_images_are_named_and_leave_no_set(rooms, tmp_path):
    with pytest.raises(KoviltError, match=r'train images, 10000 are needed; draw more by `kovilt rooms`'):
        write_set(rooms, tmp_path / 'out', images=10_000, seed=0)
    assert not (tmp_path / 'out').exists()
