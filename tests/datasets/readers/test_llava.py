"""Conversations as LLaVA is trained on."""

import base64
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kovilt.datasets import LLaVAReader, ParquetReader
from kovilt.datasets.recognition import find_data_sets
from kovilt.errors import KoviltError


def conversation(number, *turns, **more):
    texts = turns or ('<image>\n소파는 무슨 색이에요?', '빨간색', '의자가 있어요?', '예')
    spoken = [{'from': ('human', 'gpt')[place % 2], 'value': text} for place, text in enumerate(texts)]
    return {'id': f'k{number}', 'image': f'images/{number}.png', 'conversations': spoken} | more


@pytest.fixture
def folder(data):
    for number in range(3):
        data.image(f'images/{number}.png', seed=number)
    return data


def records(dataset):
    return [dataset.record(row) for row in range(len(dataset))]


def test_the_first_turn_or_every_turn(folder):
    folder.write('llava_instruct.json', [conversation(number) for number in range(3)])
    folder.write('images.json', [{'file': 'images/0.png'}])  # of something else
    (first, *_), every = records(folder.open(LLaVAReader)), records(folder.open(LLaVAReader, files={'turns': 'all'}))
    assert (first['question'], first['answer'], first['question_id']) == ('소파는 무슨 색이에요?', '빨간색', 'k0')
    assert [(row['question_id'], row['answer']) for row in every[:2]] == [('k0', '빨간색'), ('k0-1', '예')]
    assert len(every) == 6


def test_jsonl_with_roles_and_a_system_turn(folder):
    lines = [
        {
            'images': ['images/0.png'],
            'messages': [
                {'role': 'system', 'content': '한국어로 답하라'},
                {'role': 'user', 'content': '공이 있어요? <image>'},
                {'role': 'assistant', 'content': '아니요'},
            ],
        },
    ] * 2
    folder.write('val.jsonl', '\n'.join(json.dumps(line, ensure_ascii=False) for line in lines) + '\n')
    rows = records(folder.open(LLaVAReader, 'val'))
    assert [(row['question'], row['answer'], row['question_id']) for row in rows] == [
        ('공이 있어요?', '아니요', '0'),
        ('공이 있어요?', '아니요', '1'),
    ]


def cells(folder, rows, key='conversations', **columns):
    """The columns of a table of `datasets` with the images in its cells."""
    images = [{'bytes': (folder.root / row['image']).read_bytes(), 'path': None} for row in rows]
    return {'id': [row['id'] for row in rows], 'image': images, key: [row['conversations'] for row in rows]} | columns


def check_rows_of_cells(folder, split='train'):
    dataset = folder.open(LLaVAReader, split, files={'turns': 'all'})
    assert len(dataset) == 6 and dataset.num_images == 3
    assert {sample['image']['grid'] for sample in dataset.__getitems__(list(range(6)))} == {(2, 3)}
    assert [(row['question_id'], row['answer']) for row in records(dataset)[:2]] == [('k0', '빨간색'), ('k0-1', '예')]


@pytest.mark.parametrize('key', ['conversations', 'messages'])
@pytest.mark.parametrize('several', [False, True], ids=['image', 'images'])
def test_parquet_with_images_in_its_cells(folder, key, several):
    columns = cells(folder, [conversation(number) for number in range(3)], key, source=['llava'] * 3)
    if several:
        columns['images'] = [[image] for image in columns.pop('image')]
    (folder.root / 'data').mkdir()
    pq.write_table(pa.table(columns), folder.root / 'data' / 'train-00000-of-00001.parquet')
    assert find_data_sets(folder.root) == {LLaVAReader: {'train'}}
    check_rows_of_cells(folder)


def test_a_saved_folder_of_conversations(folder):
    saved = datasets.Dataset.from_dict(cells(folder, [conversation(number) for number in range(3)]))
    datasets.DatasetDict({'train': saved, 'validation': saved}).save_to_disk(folder.root / 'saved')
    assert find_data_sets(folder.root) == {LLaVAReader: {'train', 'val'}}
    check_rows_of_cells(folder, 'val')


def test_jsonl_with_images_in_base64(folder):
    rows = [conversation(number) for number in range(3)]
    for row in rows:
        row['image'] = base64.b64encode((folder.root / row['image']).read_bytes()).decode()
    folder.write('train.jsonl', '\n'.join(json.dumps(row) for row in rows))
    check_rows_of_cells(folder)


def test_a_table_of_questions_with_a_column_of_messages_is_one_of_questions(folder):
    columns = cells(folder, [conversation(0)], question=['뭐?'], answer=['공'])
    pq.write_table(pa.table(columns), folder.root / 'train.parquet')
    assert find_data_sets(folder.root) == {ParquetReader: {'train'}}


def bad_cells(folder):
    image = {'bytes': (folder.root / 'images/0.png').read_bytes(), 'path': None}
    turns = conversation(0)['conversations']
    return {
        'no column': ({'id': ['a'], 'conversations': [turns]}, "train.parquet: no column 'image' among 'id'"),
        'two images': (
            {'images': [[image, image]], 'conversations': [turns]},
            "train.parquet, row 0: 'images' holds 2 images in one row",
        ),
        'no image': (
            {'image': [image, None], 'conversations': [turns] * 2},
            'train.parquet, row 1: no image in this conversation',
        ),
        'no list': (
            {'image': [image], 'conversations': ['뭐?']},
            "train.parquet, row 0: no list 'conversations' or 'messages'",
        ),
        'no turn': (
            {'image': [image], 'conversations': [[{'speaker': 'human', 'line': '뭐?'}]]},
            "row 0: 'conversations' holds .*; a turn is {'from': 'human', 'value': '...'}",
        ),
    }


@pytest.mark.parametrize('name', ['no column', 'two images', 'no image', 'no list', 'no turn'])
def test_bad_cells_are_one_line_with_their_place(folder, name):
    columns, message = bad_cells(folder)[name]
    pq.write_table(pa.table(columns), folder.root / 'train.parquet')
    with pytest.raises(KoviltError, match=message) as error:
        folder.open(LLaVAReader)
    assert '\n' not in str(error.value)


BAD = {
    'two images': (conversation(0, image=['images/0.png', 'images/1.png']), '2 images in this conversation'),
    'no image': (conversation(0, image=None), 'no image in this conversation'),
    'two marks': (conversation(0, '<image> <image> 뭐?', '공'), '2 times <image> in a question'),
    'no list': ({'image': 'images/0.png', 'conversations': 'x'}, "no list 'conversations' or 'messages'"),
    'no turn': (conversation(0, conversations=[{'value': '뭐?'}]), "a turn is {'from': 'human', 'value': '...'}"),
    'list': ([], 'expecting an object'),
}


@pytest.mark.parametrize('row, message', BAD.values(), ids=list(BAD))
def test_bad_conversations_are_one_line_with_their_place(folder, row, message):
    folder.write('train.json', [conversation(1), row])
    with pytest.raises(KoviltError, match=rf'train.json, line \d+.*[:;] {message}') as error:
        folder.open(LLaVAReader)
    assert '\n' not in str(error.value)


def test_no_conversations(folder):
    folder.write('train.json', [{'image': 'a.png'}])
    with pytest.raises(KoviltError, match=r"no \*.json or \*.jsonl or \*.parquet of split 'train'"):
        folder.open(LLaVAReader)
    with pytest.raises(KoviltError, match='columns: conversations have none'):
        folder.open(LLaVAReader, files={'columns': {'question': '질문'}})
