"""Questions with options in the layouts in which Korean benchmarks are shared."""

import base64
import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kovilt.datasets import (
    ChoiceDataset,
    ChoiceHFDatasetReader,
    ChoiceParquetReader,
    ChoiceReader,
    ChoiceTSVReader,
)

COLORS = ['빨간색', '파란색', '노란색', '흰색']
QUESTION = '소파는 무슨 색이에요?'
LETTERS = dict(zip('ABCD', COLORS, strict=True))
CHOICES = {f'choice_{letter.lower()}': color for letter, color in LETTERS.items()}


def as_jsonl(data, row, content):
    (data.root / 'images').mkdir()
    (data.root / 'images/a.png').write_bytes(content)
    data.write('train.jsonl', json.dumps(row, ensure_ascii=False) + '\n')


def as_csv(data, row, content):
    (data.root / 'a.png').write_bytes(content)
    with (data.root / 'train.csv').open('w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([list(row), list(row.values())])


def as_parquet(data, row, content):
    (data.root / 'data').mkdir()
    table = pa.Table.from_pylist([row | {'image': {'bytes': content, 'path': 'a.png'}}])
    pq.write_table(table, data.root / 'data' / 'train-00000-of-00001.parquet')


def as_base64(data, row, content):
    table = pa.Table.from_pylist([row | {'image': base64.b64encode(content).decode()}])
    pq.write_table(table, data.root / 'train.parquet')


def as_saved(data, row, content):
    import datasets

    datasets.Dataset.from_list([row | {'image': {'bytes': content, 'path': None}}]).save_to_disk(data.root / 'train')


def as_tsv(data, row, content):
    row = row | {'image': base64.b64encode(content).decode()}
    cells = ['' if value is None else str(value) for value in row.values()]
    data.write('train.tsv', '\t'.join(row) + '\n' + '\t'.join(cells) + '\n')


VISCUIT = {
    'question': QUESTION,
    'options': COLORS,
    'answer': 2,
    'category': '색',
    'id_': 7,
    'question_type': 'TYPE1',
    'image_url': 'https://upload.wikimedia.org/a.png',
    'image_path': 'images/a.png',
}
MMBENCH = {
    'index': 7,
    'question': QUESTION,
    'hint': None,
    **LETTERS,
    'answer': 'C',
    'category': '색',
    'l2-category': 'attribute',
    'source': 'x',
    'split': 'dev',
}
MMSTAR = {
    'index': 7,
    'question': f'{QUESTION}\nOptions: ' + ', '.join(f'{letter}: {color}' for letter, color in LETTERS.items()),
    'answer': 'C',
    'category': '색',
    'l2_category': 'attribute',
    'meta_info': 'x',
}
SEED = {'question_id': '7', 'data_type': 'image', 'question': QUESTION, **CHOICES, 'answer': 'C', 'question_type': '색'}
DTC = {'index': '7', 'question': QUESTION, **CHOICES, 'answer': 'C', 'category': '색'}
KRETA = {'id': '7', 'question': QUESTION, **LETTERS, 'answer': 'C', 'category': '색'}
SSAFY = {'question_id': 7, 'image': 'a.png', 'question': QUESTION, **{k.lower(): v for k, v in LETTERS.items()}}
RENAMED = dict(image='image_path', question_id='id_', answer_type='category')
BENCHMARKS = {
    'K-Viscuit': (ChoiceReader, as_jsonl, VISCUIT, RENAMED),
    'K-MMBench': (ChoiceParquetReader, as_parquet, MMBENCH, None),
    'K-MMBench of VLMEvalKit': (ChoiceTSVReader, as_tsv, MMBENCH, None),
    'K-MMBench, saved': (ChoiceHFDatasetReader, as_saved, MMBENCH, None),
    'K-MMStar': (ChoiceParquetReader, as_parquet, MMSTAR, None),
    'K-SEED': (ChoiceParquetReader, as_parquet, SEED, None),
    'K-DTCBench': (ChoiceParquetReader, as_parquet, DTC, None),
    'KRETA': (ChoiceParquetReader, as_base64, KRETA, None),
    'KRETA of VLMEvalKit': (ChoiceTSVReader, as_tsv, KRETA, None),
    'SSAFY': (ChoiceReader, as_csv, SSAFY | {'answer': 'c', 'answer_type': '색'}, None),
}


@pytest.mark.parametrize('reader, write, row, columns', BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_every_benchmark_gives_the_same_question(data, reader, write, row, columns):
    file = data.image('made.png')
    content = file.read_bytes()
    file.unlink()
    write(data, row, content)
    made = reader(data_root=str(data.root), split='train', columns=columns)
    dataset = ChoiceDataset(reader=made, keep_record=True, **data.pipelines)
    (sample,) = dataset.__getitems__([0])
    assert sample['image']['grid'] == (2, 3) and len(sample['options']) == 4 and sample['label'] == 2
    record = dataset.record(0)
    assert record['question'] == QUESTION and record['options'] == COLORS and record['answer'] == '노란색'
    assert (record['question_id'], record['answer_type']) == ('7', '색')
