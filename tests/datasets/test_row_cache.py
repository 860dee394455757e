"""A cache of rows gives the batches of the files, is replaced when a file has changed, and never stops a run."""

import json
import multiprocessing
import os
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.utils.data import DataLoader

from kovilt.datasets import (
    AIHubCOCOKoreanReader,
    AIHubLivingReader,
    GlobalBatchSampler,
    ImageGroupSampler,
    PlainReader,
    QuestionDataset,
    collate_pairs,
    row_cache,
)
from kovilt.errors import KoviltError
from tests.support.pair_data import SUBSET

LABELS = f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json'
CACHE = {'cache': True}


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """Grows by the name of a reader each time that rows are read from files."""
    readings: list[str] = []
    read = row_cache.collect_rows
    monkeypatch.setattr(
        row_cache, 'collect_rows', lambda reader, report: readings.append(type(reader).__name__) or read(reader, report)
    )
    return readings


@pytest.fixture
def messages(monkeypatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(row_cache, '_log', lambda message, level=0: messages.append(message))
    return messages


def open_(data, **options) -> QuestionDataset:
    return data.open(AIHubLivingReader, files=options.pop('files', CACHE), answers={'min_count': 1}, **options)


def batches(dataset) -> list[dict]:
    sampler = GlobalBatchSampler(ImageGroupSampler(dataset, shuffle=True, seed=3, texts_per_image=2), 4)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_pairs)
    return [batch for parts in loader for batch in parts]


def assert_same(one: list[dict], two: list[dict]) -> None:
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize('zipped', [False, True])
def test_the_second_opening_reads_no_labels_and_gives_the_same_batches(data, readings, zipped):
    labels = data.living(images=6)
    labels['question'] = labels['question'][::2] + labels['question'][1::2]  # the rows of an image lie apart
    labels['question'] += [labels['question'][0], {**labels['question'][1], 'question_id': 99, 'image_id': 5}]
    data.write(LABELS, labels)
    if zipped:
        data.zip('Training/개인생활환경 이미지 수집.zip', 'Training/images')
    files, first, second = open_(data, files={}), open_(data), open_(data)
    assert readings == ['AIHubLivingReader']
    assert files.summary() == first.summary() == second.summary()
    assert second.left_out == {'question_id seen before': 1, 'image not listed in the labels': 1}
    for dataset in (first, second):
        assert_same(batches(files), batches(dataset))


def test_captions_and_answers_of_several_people(data, readings):
    data.captions()
    data.image('a.png')
    rows = [{'image': 'a.png', 'question': f'소파 {n}', 'answers': ['예'] * n + ['네']} for n in range(4)]
    data.write('train.jsonl', '\n'.join(map(json.dumps, rows)))
    for reader in (AIHubCOCOKoreanReader, PlainReader):
        opened = [data.open(reader, files=files) for files in ({}, CACHE, CACHE)]
        records = [[dataset.record(row) for row in range(len(dataset))] for dataset in opened]
        assert records[0] == records[1] == records[2]
    assert len(readings) == 2


def change_labels(data) -> None:
    labels = json.loads((data.root / LABELS).read_text('utf-8'))
    labels['question'][0]['answer'] = '검은색'[: len(labels['question'][0]['answer'])]
    data.write(LABELS, labels)


def touch_labels(data) -> None:
    os.utime(data.root / LABELS, ns=(1, 1))


def rename_image(data) -> None:
    first = min(data.root.rglob('*.jpg'))
    first.rename(first.with_name('x.jpg'))


def change_zip(data) -> None:
    zipped = next(data.root.rglob('*.zip'))
    zipped.write_bytes(zipped.read_bytes() + b'\0')


CHANGES = {
    'labels': change_labels,
    'the time of labels': touch_labels,
    'a new label file': lambda data: data.living(images=1, subset='노인 생활거주환경 이미지 수집', first=50),
    'a new image': lambda data: data.image('Training/images/new.jpg'),
    'an image that is gone': lambda data: min(data.root.rglob('*.jpg')).unlink(),
    'the name of an image': rename_image,
    'a zip': change_zip,
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_files_makes_it_stale(data, readings, change):
    data.living()
    data.living(images=1, split='Training/more', subset='어린이 생활거주환경 이미지 수집', first=20)
    data.zip('Training/more.zip', 'Training/more/images')
    open_(data)
    change(data)
    for _ in range(2):
        dataset = open_(data, max_broken_fraction=0.5)
    assert len(readings) == 2
    assert dataset.summary() == open_(data, files={}, max_broken_fraction=0.5).summary()


def test_an_image_replaced_under_its_name_is_read_anew(data, readings):
    data.living()
    open_(data)
    first = min(data.root.rglob('*.jpg'))
    data.image(str(first.relative_to(data.root)), seed=77)
    assert_same(batches(open_(data)), batches(open_(data, files={})))
    assert len(readings) == 1


def test_files_that_change_while_they_are_read_make_it_stale(data, readings, monkeypatch):
    data.living()
    read = row_cache.collect_rows

    def change_meanwhile(reader, report):
        rows = read(reader, report)
        touch_labels(data)
        return rows

    monkeypatch.setattr(row_cache, 'collect_rows', change_meanwhile)
    open_(data)
    monkeypatch.setattr(row_cache, 'collect_rows', read)
    open_(data)
    open_(data)
    assert len(readings) == 2


def test_arguments_files_elsewhere_and_code_belong_to_it(data, readings, tmp_path, monkeypatch):
    rows = data.captions()
    elsewhere = tmp_path / 'elsewhere.json'
    elsewhere.write_text(json.dumps(rows[:2]), 'utf-8')
    for files in ({}, {'ann_file': str(elsewhere)}, {}, {'ann_file': str(elsewhere)}):
        data.open(AIHubCOCOKoreanReader, files={**CACHE, **files})
    assert len(readings) == 2
    elsewhere.write_text(json.dumps(rows[:1]), 'utf-8')
    assert len(data.open(AIHubCOCOKoreanReader, files={**CACHE, 'ann_file': str(elsewhere)})) == 2
    assert len(readings) == 3
    monkeypatch.setattr(row_cache, '__version__', '99')
    data.open(AIHubCOCOKoreanReader, files=CACHE)
    assert len(readings) == 4


def test_several_data_sets_share_a_folder(data, readings, tmp_path):
    data.living()
    data.living(images=2, split='Validation', first=30)
    for _ in range(2):
        for split, images in (('train', 4), ('val', 2)):
            dataset = data.open(AIHubLivingReader, split, files={'cache': str(tmp_path / 'cache')})
            assert dataset.num_images == images
    assert len(readings) == 2 and len(list((tmp_path / 'cache').iterdir())) == 4
    assert not (data.root / row_cache.FOLDER).exists()


def test_a_place_that_cannot_be_written_is_a_warning(data, tmp_path, messages):
    data.living()
    (tmp_path / 'file').write_text('')
    dataset = open_(data, files={'cache': str(tmp_path / 'file')})
    assert len(dataset) == 12
    assert len(messages) == 1 and str(tmp_path / 'file') in messages[0] and 'cache=FOLDER' in messages[0]


def damage(data, how) -> None:
    for path in (data.root / row_cache.FOLDER).glob('*.rows.arrow'):
        how(path)


DAMAGES = {
    'cut off': lambda path: path.write_bytes(path.read_bytes()[:-200]),
    'empty': lambda path: path.write_bytes(b''),
    'other bytes': lambda path: path.write_bytes(b'x' * 1000),
    'gone': lambda path: path.unlink(),
    'a folder': lambda path: path.unlink() or path.mkdir(),
    'of another program': lambda path: row_cache.write_table(path, row_cache.map_table(path)),
    'images in its place': lambda path: path.write_bytes(
        path.with_name(path.name.replace('.rows.', '.images.')).read_bytes()
    ),
}


@pytest.mark.parametrize('how', DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_replaced(data, readings, how):
    data.living()
    open_(data)
    damage(data, how)
    assert_same(batches(open_(data)), batches(open_(data, files={})))
    assert len(readings) == 2


def test_every_flipped_byte_gives_the_same_rows_or_another_reading(data, readings):
    """Rows and images may not be changed silently where Arrow or the state notice it, and nothing may crash."""
    data.living(images=1)
    expected = open_(data, files={}).summary()['images']
    open_(data)
    path = next((data.root / row_cache.FOLDER).glob('*.rows.arrow'))
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        assert open_(data, image_pipeline=[]).summary()['images'] == expected


def test_a_spawned_worker_maps_the_files_again(data, readings):
    labels = data.living(images=1)
    many = [{**labels['question'][0], 'question_id': number} for number in range(20_000)]
    data.write(LABELS, {**labels, 'question': many})
    open_(data)
    dataset = open_(data)
    assert len(pickle.dumps(dataset.row_set)) < 3000
    assert len(ForkingPickler.dumps(dataset)) < 20_000  # the selected rows go through shared memory
    dataset.use_rows(list(range(0, 20_000, 2500)))
    assert_same(batches(dataset), batches(pickle.loads(pickle.dumps(dataset))))


def test_a_worker_does_not_take_a_cache_that_another_run_has_replaced(data):
    data.living()
    sent = pickle.dumps(open_(data).row_set)
    change_labels(data)
    open_(data)
    with pytest.raises(KoviltError, match='rows.arrow: replaced while a run was using it; start the run again'):
        pickle.loads(sent)


def test_the_first_processes_of_two_machines_write_one_cache(data):
    """At the same time, over and over: the files are whole at every moment, and no draft is left."""
    data.write(LABELS, data.living(images=6))
    rows = len(open_(data, files={}))
    fork = multiprocessing.get_context('fork')

    def open_often() -> None:
        for _ in range(20):
            for path in (data.root / row_cache.FOLDER).glob('*-train-*.rows.arrow'):
                path.unlink(missing_ok=True)
            assert len(open_(data)) == rows

    processes = [fork.Process(target=open_often) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list((data.root / row_cache.FOLDER).glob('.*'))
