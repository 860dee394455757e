from __future__ import annotations

import ast
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from kovilt import rooms as package
from kovilt.cli.main import main
from kovilt.errors import KoviltError
from kovilt.rooms import make_rooms, write


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob('*')
        if path.is_file()
    }


def labels(rooms: Path, split: str) -> list[dict]:
    files = sorted((rooms / 'vqa' / split / 'labels').glob('*/*.json'))
    assert files and all(file.parent.name.startswith('[라벨]') for file in files)
    return [json.loads(file.read_text(encoding='utf-8')) for file in files]


def test_same_seed_same_bytes_with_any_number_of_workers(rooms, tmp_path):
    make_rooms(tmp_path / 'two', images=80, val_images=20, seed=3, workers=2)
    assert digests(tmp_path / 'two') == digests(rooms)


def test_another_seed_draws_other_images_and_more_images_keep_the_first(rooms, tmp_path):
    make_rooms(tmp_path / 'few', images=5, val_images=2, seed=3)
    make_rooms(tmp_path / 'other', images=5, val_images=2, seed=4)
    paths = {path for path in digests(tmp_path / 'few') if path.endswith('.jpg')}
    assert paths and all(digests(rooms)[path] == digests(tmp_path / 'few')[path] for path in paths)
    assert not set(digests(rooms).values()) & set(digests(tmp_path / 'other').values())


def test_splits_share_no_image(rooms):
    sides = [
        {hashlib.sha256(path.read_bytes()).hexdigest() for path in (rooms / 'captions' / folder).glob('*.jpg')}
        for folder in ('train2014', 'val2014')
    ]
    assert [len(side) for side in sides] == [80, 20] and not sides[0] & sides[1]


@pytest.mark.parametrize('split', ['Training', 'Validation'])
def test_questions_lie_as_in_the_living_set(rooms, split):
    question_ids = []
    for label in labels(rooms, split):
        assert list(label) == ['images', 'question']
        subset = next(f for f in write.SUBSETS if (rooms / 'vqa' / split / 'images' / f).is_dir())
        images = {row['image_id']: row for row in label['images']}
        for row in label['images']:
            assert list(row) == ['image_id', 'image', 'category', 'weather']
            assert len(row['image']) == 36 and int(row['image'][:32], 16) and row['image'].endswith('.jpg')
            [path] = (rooms / 'vqa' / split / 'images').glob(f'*/{row["category"]}/{row["image"]}')
            with Image.open(path) as image:
                assert image.format == 'JPEG' and image.mode == 'RGB' and min(image.size) >= 256
        for row in label['question']:
            assert list(row) == ['question_id', 'image_id', 'question', 'answer', 'answer_type']
            assert row['image_id'] in images and row['question'] and row['answer']
            question_ids.append(row['question_id'])
        assert subset
    assert len(question_ids) == len(set(question_ids)) > 100


def test_captions_lie_as_in_the_caption_set(rooms):
    rows = json.loads((rooms / 'captions' / 'MSCOCO_train_val_Korean.json').read_text(encoding='utf-8'))
    assert len(rows) == 100
    for row in rows:
        assert list(row) == ['file_path', 'captions', 'id', 'caption_ko']
        assert len(row['captions']) == len(row['caption_ko']) == 5
        assert (rooms / 'captions' / row['file_path']).is_file()
        assert int(row['file_path'][-16:-4]) == row['id']
        folder = row['file_path'].split('/')[0]
        assert row['file_path'] == f'{folder}/COCO_{folder}_{row["id"]:012d}.jpg'


def test_boxes_name_the_same_images(rooms):
    lines = [json.loads(text) for text in (rooms / 'boxes.jsonl').read_text(encoding='utf-8').splitlines()]
    assert len(lines) == 100
    by_name = {path.name: path for path in (rooms / 'vqa').rglob('*.jpg')}
    for line in lines:
        path = by_name[line['file']]
        assert path.read_bytes() == (rooms / 'captions' / line['coco_file']).read_bytes()
        with Image.open(path) as image:
            assert image.size == (line['width'], line['height'])
        for obj in line['objects']:
            assert list(obj) == ['name', 'color', 'size', 'zone', 'box']
            x0, y0, x1, y1 = obj['box']
            assert 0 <= x0 < x1 <= line['width'] and 0 <= y0 < y1 <= line['height']


def test_an_image_is_stored_once(rooms):
    assert all(path.stat().st_nlink == 2 for path in rooms.rglob('*.jpg'))


def test_where_links_fail_images_are_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError('no links here')

    monkeypatch.setattr(write.os, 'link', refuse)
    make_rooms(tmp_path / 'rooms', images=1, val_images=1, seed=0)
    paths = list((tmp_path / 'rooms').rglob('*.jpg'))
    assert len(paths) == 4 and all(path.stat().st_nlink == 1 for path in paths)


def test_zips_hold_what_folders_hold(rooms, tmp_path):
    out = tmp_path / 'zipped'
    make_rooms(out, images=80, val_images=20, seed=3, zipped=True)
    for split in ('Training', 'Validation'):
        folders, zips = rooms / 'vqa' / split, out / 'vqa' / split
        assert {path.suffix for path in zips.iterdir()} == {'.zip'}
        for subset in write.SUBSETS:
            with zipfile.ZipFile(zips / f'{subset}.zip') as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            on_disk = {
                path.relative_to(folders / 'images').as_posix(): path.read_bytes()
                for path in (folders / 'images' / subset).rglob('*.jpg')
            }
            assert members == on_disk
            with zipfile.ZipFile(zips / f'[라벨]{subset}.zip') as archive:
                [name] = archive.namelist()
                assert archive.read(name) == (folders / 'labels' / f'[라벨]{subset}' / f'{subset}.json').read_bytes()


def test_the_same_parameters_are_drawn_once(tmp_path):
    parameters = dict(images=2, val_images=1, seed=0)
    assert make_rooms(tmp_path / 'rooms', **parameters)
    before = digests(tmp_path / 'rooms')
    assert not make_rooms(tmp_path / 'rooms', **parameters)
    assert digests(tmp_path / 'rooms') == before
    with pytest.raises(KoviltError, match='holds other Rooms .images 2, not 3'):
        make_rooms(tmp_path / 'rooms', **{**parameters, 'images': 3})


def test_single_objects_are_for_training_only(tmp_path):
    make_rooms(tmp_path / 'rooms', images=6, val_images=6, seed=0, alone=1.0)
    lines = (tmp_path / 'rooms' / 'boxes.jsonl').read_text(encoding='utf-8').splitlines()
    counts = {'train': [], 'val': []}
    for line in map(json.loads, lines):
        counts[line['split']].append(len(line['objects']))
    assert counts['train'] == [1] * 6 and min(counts['val']) > 1


def test_an_empty_folder_is_filled_and_another_left_alone(tmp_path):
    (tmp_path / 'empty').mkdir()
    assert make_rooms(tmp_path / 'empty', images=1, val_images=1, seed=0)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('years')
    with pytest.raises(KoviltError, match='holds no Rooms'):
        make_rooms(tmp_path / 'mine', images=1, val_images=1, seed=0)
    assert [path.name for path in (tmp_path / 'mine').iterdir()] == ['thesis.txt']
    with pytest.raises(KoviltError, match='is a file'):
        make_rooms(tmp_path / 'mine' / 'thesis.txt', images=1, val_images=1, seed=0)


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(root, wanted, job):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(write, 'draw_image', full)
    with pytest.raises(KoviltError, match='No space left on device'):
        make_rooms(tmp_path / 'rooms', images=1, val_images=1, seed=0)
    assert not list(tmp_path.iterdir())


def test_the_tool_draws_and_says_so(tmp_path, capsys):
    arguments = [str(tmp_path / 'rooms'), '--images', '12', '--val-images', '2', '--seed', '7', '--workers', '1']
    assert main(['rooms', *arguments]) == 0
    captured = capsys.readouterr()
    assert '12 + 2 images, seed 7, drawn' in captured.out and '14/14' in captured.err and 's left' in captured.err
    assert main(['rooms', *arguments]) == 0
    assert 'already there' in capsys.readouterr().out
    summary = json.loads((tmp_path / 'rooms' / 'rooms.json').read_text(encoding='utf-8'))
    assert (summary['images'], summary['val_images'], summary['seed']) == (12, 2, 7)
    assert len(summary['answer_types']) == 7


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['OUT', '--images', '0'], '--images: must be at least 1, not 0'),
        (['OUT', '--images', '3', '--val-images', '0'], '--val-images: must be at least 1, not 0'),
        (['OUT', '--images', '3', '--workers', '-1'], '--workers: must be at least 1, not -1'),
        (['OUT', '--images', 'many'], 'invalid int value'),
        (['OUT', '--images', '3', '--alone', '2'], '--alone: must be between 0 and 1, not 2'),
        (['OUT'], '--images'),
        (['/proc/rooms', '--images', '1'], 'cannot be written'),
        ([__file__, '--images', '1'], 'is a file'),
        ([str(Path(__file__).parent), '--images', '1'], 'holds no Rooms'),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(['rooms', *arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2 and not captured.out and not list(tmp_path.iterdir())
    assert captured.err.startswith('error: ') and message in captured.err and captured.err.count('\n') == 1


def test_the_generator_needs_neither_torch_nor_mmengine():
    allowed = {*sys.stdlib_module_names, 'numpy', 'PIL'}
    for file in Path(package.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split('.')[0] in allowed or name.startswith(
                    ('kovilt.rooms', 'kovilt.errors', 'kovilt.files', 'kovilt.processes', 'kovilt.unanswerable')
                ), file
