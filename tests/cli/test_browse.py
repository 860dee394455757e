import json
import re

import pytest
from tiny_rooms import tiny_config

from kovilt.cli.main import main
from tests.support.pair_data import Data


def run(*arguments) -> int:
    return main(['browse', *map(str, arguments)])


def cells(page: str) -> list[dict[str, str]]:
    head, *rows = [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row) for row in re.findall('<tr>(.*?)</tr>', page)]
    return [dict(zip(head, row, strict=False)) for row in rows]


def test_pre_training_shows_masked_tokens_and_negatives(rooms, tmp_path):
    config = tiny_config(tmp_path / 'pretrain.py', task='pretrain', steps=1, more='model["matching_every"] = 1')
    assert run(config, '--out', tmp_path / 'out', '--count', 10, '--shuffle') == 0
    page = (tmp_path / 'out' / 'index.html').read_text('utf-8')
    rows = cells(page)
    assert len(rows) == 10 and page.count('data:image/png') == 2
    assert (tmp_path / 'out' / 'sheet_1.png').is_file() and (tmp_path / 'out' / 'sheet_2.png').is_file()
    for row in rows:
        assert '[' in row['tokens'] and '[' in row['masked']  # at least one word of each is masked
        assert row['tokens'].replace('[', '').replace(']', '').replace(' ', '') == row['text'].replace(' ', '')
    matching = [row['matching'] for row in rows]
    assert sum('image of card' in text for text in matching) == 5 and sum('its own' in text for text in matching) == 5


def test_the_same_seed_shows_the_same(rooms, tmp_path):
    config = tiny_config(tmp_path / 'pretrain.py', task='pretrain', steps=1)
    pages = []
    for out, seed in (('a', 3), ('b', 3), ('c', 4)):
        assert run(config, '--out', tmp_path / out, '--count', 4, '--seed', seed) == 0
        pages.append([row['masked'] for row in cells((tmp_path / out / 'index.html').read_text('utf-8'))])
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_questions_show_answer_and_label(rooms, tmp_path, split):
    config = tiny_config(tmp_path / 'vqa.py', steps=1)
    assert run(config, '--out', tmp_path / 'out', '--split', split, '--count', 6) == 0
    rows = cells((tmp_path / 'out' / 'index.html').read_text('utf-8'))
    assert all(row['question'] and row['answer'] and row['tokens'] for row in rows)
    assert any('class' in row['label'] for row in rows)


def test_an_answer_outside_the_vocabulary_is_marked(rooms, tmp_path):
    config = tiny_config(tmp_path / 'vqa.py', steps=1)
    options = ['--cfg-options', 'train_dataloader.dataset.answers.min_count=8']
    assert run(config, '--out', tmp_path / 'out', '--split', 'val', '--count', 20, *options) == 0
    labels = [row['label'] for row in cells((tmp_path / 'out' / 'index.html').read_text('utf-8'))]
    assert any('OOV' in label for label in labels) and any('class' in label for label in labels)


def test_several_answers_and_soft_labels(rooms, tmp_path):
    data = Data(tmp_path / 'custom')
    for number in range(3):
        data.image(f'{number}.png', seed=number)
    counts = {0: (8, 2), 1: (2, 8), 2: (2, 8)}  # of 예 and 네
    rows = [
        {'image': f'{n}.png', 'question': '소파가 있어요?', 'answers': ['예'] * yes + ['네'] * also}
        for n, (yes, also) in counts.items()
    ]
    data.write('train.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    data.write('val.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    config = tiny_config(tmp_path / 'vqa.py', steps=1)
    options = [
        f'train_dataloader.dataset.reader.data_root={data.root}',
        'train_dataloader.dataset.reader.type=PlainReader',
    ]
    options += ['train_dataloader.dataset.target=soft', 'train_dataloader.dataset.answers.min_count=1']
    options += ['train_dataloader.dataset.cache_images=False']
    assert run(config, '--out', tmp_path / 'out', '--cfg-options', *options) == 0
    row = cells((tmp_path / 'out' / 'index.html').read_text('utf-8'))[1]
    assert row['people'] == '네 x 8, 예 x 2' and row['label'] == '네 = class 0, 예 = class 1 (0.6)'


@pytest.mark.parametrize(
    'arguments, message',
    [(['nowhere.py'], 'nowhere.py: no such config file'), (['vqa.py', '--split', 'test'], 'it has no test_dataloader')],
)
def test_bad_input_is_one_line(rooms, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    tiny_config(tmp_path / 'vqa.py', steps=1)
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1 and not (tmp_path / 'work_dirs').exists()
