"""Parquet files and saved `datasets` folders in the shapes in which people hold them."""

import base64
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kovilt.datasets import ChoiceParquetReader, HFDatasetReader, ParquetCaptionReader, ParquetReader
from kovilt.datasets.recognition import find_data_sets
from kovilt.datasets.table_files import TableCell, find_cell, is_base64, is_base64_image, read_cell
from kovilt.errors import KoviltError

IMAGE = pa.struct([('bytes', pa.binary()), ('path', pa.string())])


@pytest.fixture
def images(data):
    """The bytes of four images; the files are gone."""
    contents = []
    for number in range(4):
        file = data.image(f'{number}.png', seed=number)
        contents.append(file.read_bytes())
        file.unlink()
    return contents


def cell(content, path=None):
    return {'bytes': content, 'path': path}


def write(data, name, columns, metadata=None, **options):
    """A Parquet file; a column `image` of dicts gets the type of `datasets`."""
    path = data.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        key: pa.array(values, IMAGE if key == 'image' and isinstance(values[0], dict) else None)
        for key, values in columns.items()
    }
    table = pa.table(arrays).replace_schema_metadata(metadata)
    pq.write_table(table, path, **options)
    return path


def questions(images, rows=8, **more):
    return {
        'image': [cell(images[row % 4], f'사진 {row % 4}.png') for row in range(rows)],
        'question': [f'소파 위에 {row}' for row in range(rows)],
        'answer': [['예', '아니요'][row % 2] for row in range(rows)],
        **more,
    }


def records(dataset):
    return [dataset.record(row) for row in range(len(dataset))]


def check_images(dataset, rows=8, images=4):
    assert len(dataset) == rows and dataset.num_images == images
    samples = dataset.__getitems__(list(range(rows)))
    assert all(sample['image']['grid'] == (2, 3) for sample in samples)
    assert len({sample['image']['patches'].tobytes() for sample in samples}) == images


@pytest.mark.parametrize('options', [{}, {'row_group_size': 3}, {'compression': 'none'}, {'use_dictionary': False}])
def test_embedded_images(data, images, options):
    path = write(data, 'data/train-00000-of-00001.parquet', questions(images), **options)
    dataset = data.open(ParquetReader)
    check_images(dataset)
    first = dataset.record(0)
    assert first['image'] == f'{path}/image[0]/사진 0.png' and first['question_id'] == '0' and first['answer'] == '예'
    place = dataset.image_store[1]
    assert isinstance(place, TableCell) and place.read_bytes() == images[1] and find_cell(place.container, place.name)
    assert find_cell(place.container, 'image[99]/x.png') is None


def test_images_are_read_in_any_order(data, images):
    contents = images * 30
    rows = {'image': [cell(image + bytes([row])) for row, image in enumerate(contents)], 'question': ['뭐?'] * 120}
    write(data, 'train.parquet', rows | {'answer': ['공'] * 120}, row_group_size=50)
    store = data.open(ParquetReader, image_pipeline=[]).image_store
    for row in np.random.default_rng(0).permutation(120).tolist() + [119, 0, 1, 49, 50]:
        assert store[row].read_bytes() == contents[row] + bytes([row])


def test_shards_are_one_split_and_their_default_ids_differ(data, images):
    for shard in range(2):
        write(data, f'data/train-0000{shard}-of-00002-0123456789abcdef.parquet', questions(images))
    dataset = data.open(ParquetReader)
    check_images(dataset, rows=16)
    assert sorted(int(record['question_id']) for record in records(dataset)) == list(range(16))


@pytest.mark.parametrize(
    'name', ['data/validation-00000-of-00001.parquet', 'default/val/0000.parquet', 'MMBench_DEV.parquet']
)
def test_the_names_of_splits(data, images, name):
    write(data, name, questions(images))
    check_images(data.open(ParquetReader, 'val'))
    with pytest.raises(KoviltError, match=r"no \*.parquet of split 'train'; there is 'val'"):
        data.open(ParquetReader)


def test_a_part_of_the_images_becomes_the_validation_split(data, images):
    write(data, 'kvqa.parquet', questions(images))
    train, val = (data.open(ParquetReader, split, files={'val_share': 0.25}) for split in ('train', 'val'))
    assert (len(train), len(val)) == (6, 2) and not {*train.image_store.image_ids} & {*val.image_store.image_ids}


@pytest.mark.parametrize(
    'encode', [lambda content: content, lambda content: base64.b64encode(content).decode()], ids=['bytes', 'base64']
)
def test_other_kinds_of_cells(data, images, encode):
    rows = questions(images) | {'image': [encode(images[row % 4]) for row in range(8)]}
    write(data, 'train.parquet', rows)
    check_images(data.open(ParquetReader))


def test_paths_of_files_beside_the_table(data):
    for number in range(4):
        data.image(f'images/{number}.png', seed=number)
    write(data, 'train.parquet', questions([None] * 4) | {'image': [f'images/{row % 4}.png' for row in range(8)]})
    check_images(data.open(ParquetReader))


def test_the_shape_of_kvqa_with_ten_answers(data, images):
    answers = [[{'answer': '예', 'answer_confidence': 'yes'}] * 7 + [{'answer': '공', 'answer_confidence': 'no'}] * 3]
    write(data, 'train.parquet', questions(images) | {'answers': answers * 8, 'answer_type': ['yes/no'] * 8})
    record = data.open(ParquetReader).record(0)
    assert record['answers'] == ['예'] * 7 + ['공'] * 3 and record['answer_type'] == 'yes/no'


def test_the_shape_of_a_benchmark_with_options(data, images):
    options = {letter: [f'{letter}{row}' for row in range(8)] for letter in 'ABCD'}
    more = {'index': list(range(100, 108)), 'category': ['색'] * 8, 'hint': [None] * 8}
    rows = questions(images) | options | {'answer': ['D', 'A', 'C', 'B'] * 2} | more
    write(data, 'test-00000-of-00001.parquet', rows)
    found = records(data.open(ParquetReader, 'test'))
    assert {(record['question_id'], record['answer'], record['answer_type']) for record in found} == {
        (str(100 + row), f'{"DACB"[row % 4]}{row}', '색') for row in range(8)
    }


def test_the_options_of_multiple_choice(data, images):
    options = {letter: [f'{letter}{row}' for row in range(8)] for letter in 'ABC'}
    write(data, 'train.parquet', questions(images) | options | {'answer': ['B'] * 8})
    rows = ChoiceParquetReader(data_root=str(data.root), split='train').read_rows()
    assert rows.table['options'][0].as_py() == ['A0', 'B0', 'C0'] and rows.table['answer'][0].as_py() == 'B0'


def test_options_in_a_list_with_the_number_of_the_right_one(data, images):
    rows = questions(images) | {'options': [['공', '탁자']] * 8, 'answer': [0, 1] * 4}
    write(data, 'train.parquet', rows)
    assert {record['answer'] for record in records(data.open(ParquetReader))} == {'공', '탁자'}


def test_columns_by_other_names(data, images):
    rows = questions(images)
    rows = {'이미지': [row['bytes'] for row in rows['image']], '질문': rows['question'], '정답': rows['answer']}
    write(data, 'train.parquet', rows)
    columns = {'image': '이미지', 'question': '질문', 'answer': '정답'}
    with pytest.raises(KoviltError, match=r'--columns image=이미지 question=질문 answer=정답 takes them'):
        data.open(ParquetReader)
    check_images(data.open(ParquetReader, files={'columns': columns}))
    with pytest.raises(KoviltError, match=r"no column '물음' to take as 'question' among '이미지', '질문', '정답'"):
        data.open(ParquetReader, files={'columns': columns | {'question': '물음'}})
    with pytest.raises(KoviltError, match=r"columns: 'qestion' is no column of kovilt \(did you mean 'question'"):
        data.open(ParquetReader, files={'columns': {'qestion': '질문'}})


def test_labels_as_numbers_with_names(data, images):
    features = {'answer': {'_type': 'ClassLabel', 'names': ['공', '탁자']}, 'question': {'_type': 'Value'}}
    metadata = {b'huggingface': json.dumps({'info': {'features': features}}).encode()}
    write(data, 'train.parquet', questions(images) | {'answer': [0, 1] * 4}, metadata)
    assert {record['answer'] for record in records(data.open(ParquetReader))} == {'공', '탁자'}


def test_rows_are_cached_and_prepared_like_those_of_other_readers(data, images):
    write(data, 'train.parquet', questions(images))
    for _ in range(2):
        check_images(data.open(ParquetReader, files={'cache': True}))


def failing_rows(images, **changed):
    return questions(images) | changed


BAD = {
    'no answer': (
        lambda images: {key: value for key, value in questions(images).items() if key != 'answer'},
        "train.parquet: no column 'answer' among 'image', 'question'",
    ),
    'two images': (
        lambda images: failing_rows(images, image=[[cell(images[0])], [cell(images[0]), cell(images[1])]] * 4),
        "train.parquet, row 1: 'image' holds 2 images in one row",
    ),
    'no image': (
        lambda images: failing_rows(images, image=[cell(None)] * 8),
        "train.parquet, row 0: no 'image' in this row",
    ),
    'numbers': (lambda images: failing_rows(images, image=[3] * 8), "row 0: 'image' holds a int in place of an image"),
    'damaged base64': (
        lambda images: failing_rows(images, image=['iVBOR*w0KGgo' + 'A' * 90] * 8),
        'train.parquet, row 0: .*longer than file systems allow|base64|1 of 1 images are absent',
    ),
    'outside': (
        lambda images: failing_rows(images, image=['../../etc/a.png'] * 8),
        "train.parquet, row 0: the path '../../etc/a.png' leads out of",
    ),
    'two answers': (
        lambda images: failing_rows(images, answer=[['예', '공']] * 8),
        "row 0: 'answer' is .*; several are called 'answers'",
    ),
    'unknown option': (
        lambda images: failing_rows(images, A=['공'] * 8, B=['탁자'] * 8, answer=['E'] * 8),
        "row 0: 'answer' is 'E', none of the 2 options",
    ),
}


@pytest.mark.parametrize('rows, message', BAD.values(), ids=list(BAD))
def test_bad_rows_are_one_line_with_their_place(data, images, rows, message):
    write(data, 'train.parquet', rows(images))
    with pytest.raises(KoviltError, match=message) as error:
        data.open(ParquetReader)
    assert '\n' not in str(error.value)


def test_damaged_files_are_one_line(data, images):
    path = write(data, 'train.parquet', questions(images))
    content = path.read_bytes()
    for damaged in (content[:-20], content[: len(content) // 2], b'PAR1', b'not a table at all'):
        path.write_bytes(damaged)
        with pytest.raises(
            KoviltError, match='train.parquet: not a readable Parquet file .*download it again'
        ) as error:
            data.open(ParquetReader)
        assert '\n' not in str(error.value)


def test_an_image_that_is_none_is_broken_and_named(data, images):
    rows = questions(images)
    rows['image'][5] = cell(b'no image', 'x.png')
    write(data, 'train.parquet', rows)
    dataset = data.open(ParquetReader, max_broken_fraction=1.0)
    assert len(dataset.__getitems__(list(range(8)))) == 7
    assert dataset.broken_images() == [f'{data.root}/train.parquet/image[5]/x.png']


def test_a_missing_shard_and_shards_of_other_columns(data, images):
    write(data, 'train-00000-of-00002.parquet', questions(images))
    with pytest.raises(KoviltError, match='train-00001-of-00002: the shard is missing .1 of 2 are there'):
        data.open(ParquetReader)
    other = questions(images)
    write(data, 'train-00001-of-00002.parquet', {'image': other['image'], 'query': other['question']})
    with pytest.raises(KoviltError, match="train-00001-of-00002.parquet: no column 'question' .*, 'answer' among"):
        data.open(ParquetReader)


def test_a_file_that_changes_under_a_run_is_noticed(data, images):
    path = write(data, 'train.parquet', questions(images))
    place = data.open(ParquetReader).image_store[0]
    gone = place._replace(content_size=place.content_size + 1)
    with pytest.raises(KoviltError, match='another image than when the file was listed'):
        TableCell(*gone).read_bytes()
    path.unlink()
    with pytest.raises(KoviltError, match='no such file'):
        TableCell(*place._replace(container=str(path) + 'x')).read_bytes()


def test_captions(data, images):
    rows = questions(images)
    captions = [[f'소파 {row}', f'의자 {row}'] for row in range(8)]
    write(data, 'train-00000-of-00001.parquet', {'image': rows['image'], 'captions': captions})
    dataset = data.open(ParquetCaptionReader)
    check_images(dataset, rows=16)
    assert dataset.record(0)['text'] == '소파 0'
    write(data, 'train-00000-of-00001.parquet', {'image': rows['image'], '설명': rows['question']})
    with pytest.raises(KoviltError, match=r"no column 'text' \(rename '설명'\) among .*--columns text=설명 takes them"):
        data.open(ParquetCaptionReader)
    check_images(data.open(ParquetCaptionReader, files={'columns': {'text': '설명'}}))


@pytest.mark.parametrize('key', ['caption_ko', 'captions_ko'])
def test_the_shape_of_ko_coco(data, images, key):
    """English beside Korean captions, ids, and an image in each row."""
    rows = {
        'image': questions(images)['image'],
        'id': list(range(8)),
        'captions': [['a sofa', 'a chair']] * 8,
        key: [[f'소파 {row}', f'의자 {row}'] for row in range(8)],
    }
    write(data, 'data/train-00000-of-00001.parquet', rows)
    write(data, 'data/validation-00000-of-00001.parquet', rows)
    assert find_data_sets(data.root) == {ParquetCaptionReader: {'train', 'val'}}
    dataset = data.open(ParquetCaptionReader)
    check_images(dataset, rows=16)
    assert {dataset.record(row)['text'] for row in range(16)} == {
        f'{what} {row}' for what in ('소파', '의자') for row in range(8)
    }


def test_a_folder_that_datasets_has_saved(data, images):
    saved = datasets.Dataset.from_dict(questions(images)).cast_column('image', datasets.Image())
    splits = datasets.DatasetDict({'train': saved, 'validation': saved.select(range(4))})
    splits.save_to_disk(data.root / 'saved', num_shards={'train': 2, 'validation': 1})
    dataset = data.open(HFDatasetReader)
    check_images(dataset)
    place = dataset.image_store[0]
    assert isinstance(place, TableCell) and place.container.endswith('saved/train/data-00000-of-00002.arrow')
    check_images(data.open(HFDatasetReader, 'val'), rows=4)
    with pytest.raises(KoviltError, match="no saved data set of split 'test'; there is 'train', 'val'"):
        data.open(HFDatasetReader, 'test')
    arrow = data.root / 'saved/train/data-00000-of-00002.arrow'
    content = arrow.read_bytes()
    arrow.unlink()
    with pytest.raises(KoviltError, match='data-00000-of-00002.arrow: no such file'):
        data.open(HFDatasetReader)
    arrow.write_bytes(content[: len(content) // 2])
    with pytest.raises(KoviltError, match='data-00000-of-00002.arrow: not a readable Arrow file'):
        data.open(HFDatasetReader)
    state = data.root / 'saved/train/state.json'
    for files, message in (
        ([{'filename': '../validation/data.arrow'}], 'state.json: the path .* leads out of'),
        ([], "'_data_files' lists no files"),
    ):
        state.write_text(json.dumps({'_data_files': files}))
        with pytest.raises(KoviltError, match=message):
            data.open(HFDatasetReader)


def test_what_is_base64_and_what_a_path():
    assert is_base64_image('data:image/png;base64,iVBO') and is_base64_image('iVBORw0KGgo' + 'A' * 60)
    assert not is_base64_image('A' * 300) and not is_base64_image('/9j/' * 20 + 'a.jpg') and not is_base64_image('')
    assert is_base64('data:image/png;base64,iVBO') and is_base64('iVBORw0KGgo' + 'A' * 60)
    assert not is_base64('images/a.png') and not is_base64('folder/' * 20 + 'a.jpeg') and not is_base64('')
    with pytest.raises(ValueError, match='damaged base64 of 68 characters'):
        read_cell('iVBO' + 'A' * 60 + '=A==')
    assert read_cell(None).content is None and read_cell([cell(b'x')]).content == b'x'


@pytest.mark.parametrize('kind', ['struct', 'map', 'lists'])
def test_weights_of_answers(data, images, kind):
    weights = [{'예': 0.75, '네': 0.25}, {'아니요': 1.0}] * 4
    if kind == 'map':
        more = {'answers': pa.array([list(row.items()) for row in weights], pa.map_(pa.string(), pa.float32()))}
    elif kind == 'struct':
        more = {'answers': pa.array(weights)}  # a field for each answer, null where a row lacks it
    else:
        more = {'answers': [list(row) for row in weights], 'answer_weights': [list(row.values()) for row in weights]}
    rows = questions(images) | more
    del rows['answer']
    write(data, 'train.parquet', rows)
    for record in records(data.open(ParquetReader)):
        expected = weights[int(record['question'].split()[-1]) % 2]
        assert dict(zip(record['answers'], record['answer_weights'], strict=True)) == expected
        assert record['answer'] == max(expected, key=expected.get)
