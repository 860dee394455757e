"""Data sets written for others: the library `datasets` and pandas open them, and kovilt reads them back."""

import io
import json

import datasets
import pandas
import pytest
from PIL import Image

from kovilt.datasets import HFDatasetReader, KVQAReader, ParquetReader, PlainReader
from kovilt.datasets import data_set_files as files
from kovilt.datasets.data_set_files import write_data_set
from kovilt.datasets.table import digest_table
from kovilt.errors import KoviltError


@pytest.fixture
def splits(data):
    """KVQA's rows, several of which are about one image; one image is no longer there."""
    opened = {}
    for split, count in (('train', 5), ('val', 3)):
        rows = []
        for number in range(count):
            data.image(f'{split}{number}.png', seed=number)
            answers = [{'answer': answer} for answer in ['공'] * 7 + ['탁자'] * 3]
            row = {'image': f'{split}{number}.png', 'question': f'뭐예요 {number}?', 'answers': answers}
            rows.append(row | {'answer_type': 'other'})
        data.write(f'KVQA_annotations_{split}.json', rows)
        opened[split] = data.open(KVQAReader, split, test_mode=True)
    (data.root / 'val2.png').unlink()
    return opened


def check_rows(rows, splits):
    expected = [splits['train'].record(row) for row in range(5)]
    for name in ('question', 'question_id', 'answer', 'answers', 'answer_type'):
        assert [list(row[name]) if name == 'answers' else row[name] for row in rows] == [row[name] for row in expected]


def read_back(data, reader, root, splits):
    """The same rows and images through kovilt's own reader."""
    data.root = root
    for name, dataset in splits.items():
        again = data.open(reader, name, test_mode=True)
        assert len(again) == len(dataset) - (name == 'val')
        if name == 'train':
            ours, theirs = (one.row_set.table for one in (dataset, again))
            columns = [column for column in ours if column != 'image']
            assert digest_table({c: ours[c] for c in columns}) == digest_table({c: theirs[c] for c in columns})
        for row in range(len(again)):
            patches = [one[row]['image']['patches'].tobytes() for one in (dataset, again)]
            assert patches[0] == patches[1]


def test_parquet(data, splits, tmp_path):
    out = tmp_path / 'parquet'
    written = write_data_set(out, splits, 'parquet')
    assert (written['train'].rows, written['train'].images, written['train'].missing) == (5, 5, [])
    assert (written['val'].rows, [name.endswith('val2.png') for name in written['val'].missing]) == (2, [True])
    frame = pandas.read_parquet(out / 'data' / 'train-00000-of-00001.parquet')
    check_rows(frame.to_dict('records'), splits)
    assert (
        Image.open(io.BytesIO(frame['image'][0]['bytes'])).size == (48, 32)
        and frame['image'][0]['path'] == 'train0.png'
    )
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / 'cache'))
    assert set(loaded) == {'train', 'validation'} and loaded['train'][0]['image'].size == (48, 32)
    check_rows(loaded['train'], splits)
    read_back(data, ParquetReader, out, splits)


def test_a_folder_for_load_from_disk(data, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(files, '_SHARD_BYTES', 1)
    monkeypatch.setattr(files, '_ROWS', 2)
    out = tmp_path / 'hf'
    assert write_data_set(out, splits, 'hf')['train'].files == 3
    loaded = datasets.load_from_disk(str(out))
    assert set(loaded) == {'train', 'validation'} and isinstance(loaded['train'].features['image'], datasets.Image)
    assert loaded['train'][4]['image'].size == (48, 32)
    check_rows(loaded['train'], splits)
    check_rows(loaded['train'].map(lambda row: row).to_list(), splits)
    read_back(data, HFDatasetReader, out, splits)


def test_an_image_of_several_rows_is_stored_once(data, tmp_path):
    data.image('a.png', size=(400, 300))
    size = (data.root / 'a.png').stat().st_size
    row = {'image': 'a.png', 'answer': '공'}
    rows = [json.dumps(row | {'question': f'소파 {number}'}) for number in range(20)]
    data.write('train.jsonl', '\n'.join(rows) + '\n')
    write_data_set(tmp_path / 'out', {'train': data.open(PlainReader)}, 'parquet')
    assert (tmp_path / 'out' / 'data' / 'train-00000-of-00001.parquet').stat().st_size < 1.5 * size


def test_a_folder_that_holds_something_else_is_left_alone(data, splits, tmp_path):
    out = tmp_path / 'out'
    write_data_set(out, splits, 'parquet')
    with pytest.raises(KoviltError, match='holds a data set; name another folder, or give --overwrite'):
        write_data_set(out, splits, 'hf')
    write_data_set(out, splits, 'hf', overwrite=True)
    assert not (out / 'data').exists() and (out / 'train' / 'state.json').is_file()
    (out / 'notes.txt').touch()
    with pytest.raises(KoviltError, match='out: holds other files; name another folder'):
        write_data_set(out, splits, 'hf', overwrite=True)
    for file in data.root.glob('*.png'):
        file.unlink()
    with pytest.raises(KoviltError, match="no row of split 'train' has an image that can be read"):
        write_data_set(tmp_path / 'none', splits, 'hf')
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(('target', 'reader'), [('parquet', ParquetReader), ('hf', HFDatasetReader)])
def test_weights_of_answers_come_back(data, tmp_path, target, reader):
    for number in range(3):
        data.image(f'{number}.png', seed=number)
    answers = [{'answers': {'빨간색': 0.8, '분홍색': 0.2}}, {'answer': '예'}, {'answers': {'예': 0.7}}]
    rows = [{'image': f'{n}.png', 'question': f'소파 {n}', **own} for n, own in enumerate(answers)]
    data.write('train.jsonl', '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))
    dataset = data.open(PlainReader)
    write_data_set(tmp_path / 'out', {'train': dataset}, target)
    data.root = tmp_path / 'out'
    again = data.open(reader)
    for row in range(3):
        ours, theirs = ({k: v for k, v in one.record(row).items() if k != 'image'} for one in (dataset, again))
        assert ours == theirs
    assert again.record(0)['answer_weights'] == [0.8, 0.2] and again.record(0)['answer'] == '빨간색'
