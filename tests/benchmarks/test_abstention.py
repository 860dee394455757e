"""The benchmark compares signals on Rooms and foreign images, and trains both ways to meet unanswerable questions."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import abstention
from benchmarks.abstention_images import FOREIGN_QUESTIONS, MADE, foreign_images
from kovilt.cli.main import main
from kovilt.rooms import make_rooms


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """A Rooms folder, and one with two images of noise in place of photographs."""
    root = tmp_path_factory.mktemp('abstention')
    make_rooms(root / 'data', images=24, val_images=6, seed=0)
    (root / 'foreign').mkdir()
    for name, size in (('wide.png', (90, 40)), ('high.jpg', (30, 70))):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / 'foreign' / name)
    return root


def test_signals_of_images_and_texts(call_benchmark, folders, tmp_path, monkeypatch):
    monkeypatch.setattr('benchmarks.abstention_images.MADE', 3)
    arguments = ['--parts', 'images', 'texts', '--fit', 24, '--val-images', 6, '--crops', 2]
    file = tmp_path / 'figures.json'
    code, out, error = call_benchmark(
        'abstention', folders / 'data', '--foreign', folders / 'foreign', *arguments, '--json', file
    )
    assert code == 0, error
    figures = json.loads(file.read_text('utf-8'))
    found = {(row['foreign'], row['signal']): row for row in figures['images']}
    assert len(found) == len(figures['images']) == 7 * (1 + len(abstention.VECTORS))
    states = abstention.VECTORS['states']
    assert {name: row['images'] for (name, signal), row in found.items() if signal == states} == {
        'photographs': 4, 'documents': 3, 'noise': 3, 'single colors': 3,
        'Rooms in gray': 6, 'Rooms blurred': 6, 'Rooms upside down': 6,
    }  # fmt: skip
    assert found['photographs', states]['of sources'] == 2
    assert found['noise', states]['AUROC'] == '1.000 (1.000 to 1.000)'
    (texts,) = figures['texts']
    assert texts['foreign'] == len(FOREIGN_QUESTIONS) and float(texts['AUROC'].split()[0]) > 0.6
    assert '| noise |' in out


def test_all_ways_are_trained_from_the_same_start(call_benchmark, folders, tmp_path, monkeypatch):
    """In this process, where everything is imported."""

    def run(command):
        assert main([str(word) for word in command[2:]]) == 0
        return 1.0

    monkeypatch.setattr(abstention, 'run_kovilt', run)
    file = tmp_path / 'figures.json'
    arguments = ['--parts', 'classes', '--train-images', 24, '--val-images', 6, '--steps', 1, '--json', file]
    code, out, error = call_benchmark('abstention', folders / 'data', *arguments)
    assert code == 0, error
    rows = json.loads(file.read_text('utf-8'))['classes']
    assert [(row['way'], row['signal'].split()[0]) for row in rows] == [
        ('threshold', '1'), ('class', '1'), ('class', 'probability'),
        ('class without images', '1'), ('class without images', 'probability'),
    ]  # fmt: skip
    assert rows[0]['unanswerable right (%)'] == '' and rows[1]['unanswerable right (%)'] != ''
    assert 'answerable and 12 unanswerable questions' in out


def test_foreign_images_are_of_several_kinds_and_the_same_for_a_seed(folders):
    found, again = (foreign_images([folders / 'foreign'], 3, seed=1) for _ in range(2))
    assert {kind: len(images) for kind, images in found.items()} == {
        'photographs': 6, 'documents': MADE, 'noise': MADE, 'single colors': MADE,
    }  # fmt: skip
    for kind, images in found.items():
        for (image, source), (other, _) in zip(images, again[kind], strict=True):
            assert image.tobytes() == other.tobytes() and min(image.size) >= 8 and source
    page = np.asarray(found['documents'][0][0].convert('L'))
    assert 0.02 < (page < 150).mean() < 0.4  # letters
    assert len(set(FOREIGN_QUESTIONS)) == len(FOREIGN_QUESTIONS) == 40


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'argument --foreign: give a folder of photographs, or --parts texts classes'),
        (('--foreign', 'none'), 'none: no photographs in it (JPEG or PNG)'),
        (('--foreign', 'none', '--fit', '25'), '24 images of train, 25 are needed; draw more by kovilt rooms'),
        (('--parts', 'texts', '--val-images', '7'), '6 images of val, 7 are needed'),
        (('--parts', 'texts', '--steps', '0'), 'argument --steps: must be at least 1, not 0'),
    ],
)
def test_bad_input_is_one_line(call_benchmark, folders, arguments, message, monkeypatch):
    monkeypatch.chdir(folders)
    sizes = () if '--fit' in arguments else ('--fit', 24)
    sizes += () if '--val-images' in arguments else ('--val-images', 6)
    code, _, error = call_benchmark('abstention', 'data', *arguments, *sizes)
    assert code == 2 and message in error and error.splitlines()[-1].startswith('error: ')
