"""Questions of other tables than JSONL and CSV, for `kovilt predict --input`."""

import base64
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kovilt.apis.question_rows import read_question_rows
from kovilt.datasets.readers.parquet import TableCell
from kovilt.errors import KoviltError
from tests.datasets.test_tar_files import write_tar


@pytest.fixture
def folder(tmp_path):
    Image.new('RGB', (48, 32), 'tan').save(tmp_path / 'a.png')
    content = (tmp_path / 'a.png').read_bytes()
    questions = {'question': ['뭐?', '어디?'], 'id': [7, 8]}
    for name in ('train', 'val'):
        cells = pa.array(
            [{'bytes': content, 'path': 'a.png'}] * 2, pa.struct([('bytes', pa.binary()), ('path', 'string')])
        )
        pq.write_table(pa.table({'image': cells, **questions}), tmp_path / f'{name}.parquet')
    text = base64.b64encode(content).decode()
    (tmp_path / 'a.tsv').write_text(f'index\timage\tquestion\n1\t{text}\t뭐?\n', encoding='utf-8')
    (tmp_path / 'a.jsonl').write_text(json.dumps({'사진': 'a.png', '질문': '뭐?'}) + '\n', encoding='utf-8')
    return tmp_path


def test_images_in_the_cells_of_a_table(folder):
    rows = read_question_rows(folder / 'val.parquet')
    assert [(row.question, row.question_id, row.image) for row in rows] == [
        ('뭐?', '7', 'val.parquet/image[0]/a.png'),
        ('어디?', '8', 'val.parquet/image[0]/a.png'),
    ]
    assert isinstance(rows[0].place, TableCell) and rows[0].place.read_bytes() == (folder / 'a.png').read_bytes()
    (row,) = read_question_rows(folder / 'a.tsv')
    assert row.place.read_bytes() == (folder / 'a.png').read_bytes() and row.question_id == '1'


def test_images_in_base64_and_in_a_shard(folder, tmp_path_factory):
    content = (folder / 'a.png').read_bytes()
    row = {'image': base64.b64encode(content).decode(), 'question': '뭐?'}
    (folder / 'b.jsonl').write_text(json.dumps(row, ensure_ascii=False) + '\n', encoding='utf-8')
    (found,) = read_question_rows(folder / 'b.jsonl')
    assert found.place.read_bytes() == content and found.image.startswith('b.jsonl/line 1, bytes ')
    shards = tmp_path_factory.mktemp('shards')
    members = {'1.png': content, '1.json': b'{"question": "?"}', '2.json': b'[{"question": "a"}, {"question": "b"}]'}
    write_tar(shards / '0.tar', members)
    rows = read_question_rows(shards)
    assert [row.question for row in rows] == ['?', 'a', 'b'] and rows[0].place.read_bytes() == content
    assert rows[1].place == rows[2].place and not rows[1].place.exists()  # only its questions cannot be answered


def test_a_folder_with_the_tables_of_one_split(folder):
    with pytest.raises(KoviltError, match="holds 'train' of ParquetReader, 'val' of ParquetReader; give the file"):
        read_question_rows(folder)
    (folder / 'train.parquet').unlink()
    assert len(read_question_rows(folder)) == 2
    assert len(read_question_rows(folder, questions=['뭐?'])) == 1  # of a folder of images


def test_columns_by_other_names(folder):
    with pytest.raises(KoviltError, match='--columns image=사진 question=질문 takes them'):
        read_question_rows(folder / 'a.jsonl')
    (row,) = read_question_rows(folder / 'a.jsonl', columns={'image': '사진', 'question': '질문'})
    assert (row.image, row.question) == ('a.png', '뭐?')


@pytest.mark.parametrize('options', ['question', '=질문', 'question=', 'question=a question=b'])
def test_columns_on_the_command_line(folder, call, options):
    code, _, error = call(
        'predict', 'rooms', '--input', folder / 'a.jsonl', '--output', 'x', '--columns', *options.split()
    )
    assert code == 2 and re.match('error: --columns .*: give NAME=COLUMN, each name once', error)
