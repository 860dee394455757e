"""Prepared data that is damaged, forged or put together wrongly: refused in one line when it is opened."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.prepared_check import GRID, check_patches, check_summary, check_tables
from kovilt.datasets.table import CATEGORY, CATEGORY_LIST, STRING, TableBuilder, map_table, write_table
from kovilt.errors import KoviltError

FOLDER, NAMES = Path('/data/train'), ('rows.arrow', 'images.arrow')


def refusal(call, *args):
    """The one line with which a call refuses its input."""
    with pytest.raises(KoviltError) as caught:
        call(*args)
    message = str(caught.value)
    assert '\n' not in message
    return message


def make_rows(count=40):
    builder = TableBuilder({'question': STRING, 'answer': CATEGORY, 'answers': CATEGORY_LIST, 'image': pa.int32()})
    for number in range(count):
        answers = ['소파', f'{number % 7}개']
        builder.append({'question': f'{number}번 질문은?', 'answer': '예', 'answers': answers, 'image': number // 4})
    return builder.finish()


def make_images(count=10):
    store = ImageStore()
    for number in range(count):
        store.append(Path(f'/data/{number}.jpg'), '', number)
    return store.freeze().table


SPLIT = {
    'rows': 40,
    'images': 10,
    'left_out': {},
    'broken': 1,
    'identity': 'x',
    'shards': 3,
    'images_per_shard': 4,
    'patch_width': 12,
}
GRIDS = np.array([[1, 2], [2, 2], [1, 1], [3, 1], [0, 0], [1, 1], [2, 1], [2, 3], [0, 0], [4, 4]], np.int32)
SHARD_BYTES = [10 * 12, 9 * 12, 16 * 12]
BROKEN, ABSENT = {4: 'cut off'}, np.array([8])


# Arrow files


def outcome(path, expected):
    try:
        table = map_table(path)
    except KoviltError as error:
        assert '\n' not in str(error)
        return 'refused'
    found = {name: column.to_pylist() for name, column in table.items()}  # every value can be read
    return 'equal' if found == expected else 'different'


def test_no_flipped_byte_crashes_the_process_and_most_are_refused(tmp_path):
    """In a process of its own, because a wrong offset would end it by a signal."""
    path, results = tmp_path / 'rows.arrow', tmp_path / 'results.json'
    rows = make_rows()
    write_table(path, rows)
    original, expected = path.read_bytes(), {name: column.to_pylist() for name, column in rows.items()}
    places = range(0, len(original), max(1, len(original) // 900))
    child = os.fork()
    if not child:
        found = []
        for place in places:
            flipped = bytearray(original)
            flipped[place] ^= 0xFF if place % 2 else 0x01
            path.write_bytes(flipped)
            found.append(outcome(path, expected))
        results.write_text(json.dumps(found))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    found = json.loads(results.read_text())
    assert len(found) == len(places) and found.count('refused') > 200


@pytest.mark.parametrize('length', [0, 1, 8, 100, 1000, -1, -8, -300])
def test_a_file_cut_off_is_refused(tmp_path, length):
    write_table(tmp_path / 'rows.arrow', make_rows())
    content = (tmp_path / 'rows.arrow').read_bytes()
    (tmp_path / 'rows.arrow').write_bytes(content[:length])
    assert 'not a readable Arrow file' in refusal(map_table, tmp_path / 'rows.arrow')


def offsets(*values):
    return np.array(values, np.int64).tobytes()


TEXTS = pa.array(['소파', 'TV!!!'], STRING)  # their offsets are 0, 6, 11
FORGED = {  # a column, and bytes of its file to replace
    'offsets that fall': (TEXTS, offsets(0, 6, 11), offsets(0, 9, 3)),
    'offsets behind the end': (TEXTS, offsets(0, 6, 11), offsets(0, 6, 999)),
    'far behind the end': (TEXTS, offsets(0, 6, 11), offsets(0, 6, 1 << 60)),
    'a negative offset': (TEXTS, offsets(0, 6, 11), offsets(-9, 6, 11)),
    'an offset within a character': (TEXTS, offsets(0, 6, 11), offsets(0, 5, 11)),
    'no UTF-8': (TEXTS, '소파'.encode(), b'\xff' * 6),
    'a code without a category': (
        pa.DictionaryArray.from_arrays(pa.array([5, 3, 5, 4], pa.int32()), pa.array([*'가나다라마바'], STRING)),
        np.array([5, 3, 5, 4], np.int32).tobytes(),
        np.array([5, 3, 5, 6], np.int32).tobytes(),
    ),
    'a missing value': (pa.array(['a', None], STRING), b'', b''),
    'a missing category': (
        pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(['예', None], STRING)),
        b'',
        b'',
    ),
    'a missing value in a list': (pa.array([['a', None]], pa.list_(STRING)), b'', b''),
}


@pytest.mark.parametrize('name', FORGED)
def test_forged_columns_are_refused(tmp_path, name):
    column, old, new = FORGED[name]
    write_table(tmp_path / 'rows.arrow', {'question': column})
    content = (tmp_path / 'rows.arrow').read_bytes()
    assert not old or content.count(old) == 1
    (tmp_path / 'rows.arrow').write_bytes(content.replace(old, new))
    assert 'not a readable Arrow file' in refusal(map_table, tmp_path / 'rows.arrow')


def test_several_batches_or_equal_names_are_refused(tmp_path):
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=['a', 'a'])
    with pa.ipc.new_file(tmp_path / 'rows.arrow', batch.schema) as file:
        file.write_batch(batch)
    assert 'two columns of one name' in refusal(map_table, tmp_path / 'rows.arrow')
    batch = pa.RecordBatch.from_arrays([pa.array([1])], names=['a'])
    with pa.ipc.new_file(tmp_path / 'rows.arrow', batch.schema) as file:
        file.write_batch(batch)
        file.write_batch(batch)
    assert '2 batches' in refusal(map_table, tmp_path / 'rows.arrow')


def test_a_pipe_called_arrow_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / 'rows.arrow')
    assert 'no regular file but a pipe' in refusal(map_table, tmp_path / 'rows.arrow')


# Tables that do not fit together


def int32(values):
    return pa.array(values, pa.int32())


@pytest.mark.parametrize(
    'rows, images, reason',
    [
        ({'image': int32([-1] * 40)}, {}, 'an image number out of range'),
        ({'image': int32([10] * 40)}, {}, 'an image number out of range'),
        ({'image': pa.array([0] * 40, pa.int64())}, {}, "column 'image' of type int64"),
        ({'question': pa.array([1] * 40)}, {}, "column 'question' of type int64"),
        ({'answer': pa.array(['예'] * 40)}, {}, "column 'answer' of type string"),
        ({'note': pa.array([1.5] * 40)}, {}, "column 'note' of type double"),
        ({'image': None}, {}, "no column 'image'"),
        ({'question': None}, {}, "no column 'question'"),
        ({}, {'start': pa.array([0.5] * 10)}, "no column 'start' of type int64"),
        ({}, {'grid': None}, "no column 'grid'"),
        ({}, {'grid': pa.array([[1, 2]] * 10, pa.list_(pa.int64(), 2))}, "no column 'grid'"),
        ({}, {'name': None}, "no column 'name'"),
        ({}, {'size': pa.array([-1] * 10, pa.int64())}, 'a negative size'),
    ],
)
def test_tables_that_do_not_fit_together(rows, images, reason):
    def changed(table, changes):
        return {name: column for name, column in {**table, **changes}.items() if column is not None}

    tables = make_rows(), {**make_images(), 'grid': pa.array(GRIDS.tolist(), GRID)}
    check_tables(*tables, SPLIT, FOLDER, NAMES)
    message = refusal(check_tables, changed(tables[0], rows), changed(tables[1], images), SPLIT, FOLDER, NAMES)
    assert message.startswith(f'{FOLDER}/{"images" if images else "rows"}.arrow: damaged ({reason}')
    assert '; copy it again, or prepare again: ' in message


def test_fewer_rows_than_stated():
    tables = make_rows(39), {**make_images(), 'grid': pa.array(GRIDS.tolist(), GRID)}
    assert '39 rows, not 40' in refusal(check_tables, *tables, SPLIT, FOLDER, NAMES)


@pytest.mark.parametrize(
    'change, reason',
    [
        ({'grids': GRIDS + np.int32(1)}, 'without patches'),
        ({'grids': -GRIDS}, 'a grid out of range'),
        ({'grids': np.where(GRIDS == 4, 60_000, GRIDS)}, 'a grid out of range'),
        ({'grids': np.where(GRIDS == 4, 5, GRIDS)}, 'size of shard [2]'),
        ({'grids': GRIDS[[3, 1, 2, 0, 4, 5, 6, 7, 8, 9]]}, None),
        ({'grids': GRIDS[[9, 1, 2, 3, 4, 5, 6, 7, 8, 0]]}, 'size of shard [0]'),
        ({'grids': np.where(GRIDS == 3, 0, GRIDS)}, 'without patches'),
        ({'grids': GRIDS[:8], 'absent': ABSENT[:0]}, 'grids of 2 shards, not 3'),
        ({'shard_bytes': [120, 108, 192 + 12]}, 'size of shard [2]'),
        ({'broken': {5: 'x'}}, 'without patches'),
        ({'broken': {}}, 'without patches'),
        ({'absent': np.array([8, 9])}, 'without patches'),
        ({'split': {**SPLIT, 'patch_width': 24}}, 'size of shard [0]'),
        ({'split': {**SPLIT, 'images_per_shard': 5}}, 'grids of 2 shards, not 3'),
        ({}, None),
    ],
)
def test_grids_that_do_not_fill_the_shards(change, reason):
    args = dict(grids=GRIDS, split=SPLIT, shard_bytes=SHARD_BYTES, broken=BROKEN, absent=ABSENT) | change
    values = (*args.values(), FOLDER / 'images.arrow')
    if reason is None:
        check_patches(*values)
    else:
        assert reason in refusal(check_patches, *values)


# prepared.json

SUMMARY = {
    'files': {'train/rows.arrow': {'size': 5, 'sha256': 'ab' * 32}},
    'splits': {'train': SPLIT},
}


def with_value(path, value):
    """SUMMARY with another value at a path of keys."""
    changed = json.loads(json.dumps(SUMMARY))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


WRONG = [None, [], 'x', -1, 1.5, True, {'a': []}, 1 << 70]


@pytest.mark.parametrize(
    'path, wrong',
    [
        (('files',), [None, [], {}, 'x', {'a': 1}]),
        (('splits',), [None, [], {}, 'x', {'a': 1}]),
        (('files', 'train/rows.arrow', 'size'), WRONG),
        (('files', 'train/rows.arrow', 'sha256'), [*WRONG, 'AB' * 32, 'ab' * 31]),
        (('splits', 'train', 'left_out'), [None, [], 'x', {'a': 'b'}, {'a': -1}]),
        (('splits', 'train', 'identity'), [None, [], 1, {}]),
        (('splits', 'train', 'images_per_shard'), [0, *WRONG]),
        *[(('splits', 'train', key), WRONG) for key in ('rows', 'images', 'broken', 'shards', 'patch_width')],
    ],
)
def test_each_value_of_the_summary_has_its_type(path, wrong):
    check_summary(SUMMARY, Path('/data/prepared.json'))
    for value in wrong:
        message = refusal(check_summary, with_value(path, value), Path('/data/prepared.json'))
        assert message.startswith('/data/prepared.json: damaged (') and path[-1] in message


@pytest.mark.parametrize('name', ['../a', '/etc/passwd', 'a\n', '..\\a', 'C:\\a'])
def test_files_of_the_summary_lie_in_its_folder(name):
    summary = {**SUMMARY, 'files': {name: {'size': 5, 'sha256': 'ab' * 32}}}
    assert 'the path' in refusal(check_summary, summary, Path('/data/prepared.json'))
