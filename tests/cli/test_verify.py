import json

import pytest
from tiny_rooms import tiny_config

from kovilt.cli.main import main
from tests.support.pair_data import Data


def run(*arguments) -> int:
    return main(['verify', *map(str, arguments), '--workers', '1'])


@pytest.fixture
def custom(tmp_path) -> Data:
    """A plain folder without faults."""
    data = Data(tmp_path / 'custom')
    for split, numbers in (('train', (0, 1)), ('val', (2,))):
        for number in numbers:
            data.image(f'{number}.png', size=(48, 36), seed=number)
        rows = [{'image': f'{number}.png', 'question': '소파가 있어요?', 'answer': '예'} for number in numbers]
        data.write(f'{split}.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    return data


def change(data: Data, **values: str) -> None:
    path = data.root / 'train.jsonl'
    first, *others = path.read_text('utf-8').splitlines()
    path.write_text('\n'.join([json.dumps({**json.loads(first), **values}), *others]), 'utf-8')


@pytest.mark.parametrize(
    'values, code, said',
    [
        ({}, 0, '0 errors, 0 warnings, 0 notes'),
        ({'question': '뭐'}, 0, 'note  text.short  1'),
        ({'answer': 'nan'}, 1, 'warning  answer.placeholder  1'),
        ({'image': 'gone.png'}, 2, 'error  image.missing  1'),
    ],
)
def test_the_exit_code_is_the_most_severe_finding(custom, capsys, values, code, said):
    change(custom, **values)
    assert run(custom.root) == code
    assert said in capsys.readouterr().out


def test_a_trusted_folder_may_lead_out_of_itself(custom, tmp_path, capsys):
    outside = tmp_path / 'outside.png'
    (custom.root / '0.png').rename(outside)
    change(custom, image=str(outside))
    assert run(custom.root) == 2 and 'leads out of' in capsys.readouterr().out
    assert run(custom.root, '--allow-outside') == 0


def test_the_report_is_written(custom, tmp_path, capsys):
    change(custom, image='gone.png')
    page = tmp_path / 'pages' / 'report.html'
    assert run(custom.root, '--deep', '--json', tmp_path / 'new' / 'report.json', '--html', page) == 2
    assert f'<title>Verification of {custom.root}</title>' in page.read_text('utf-8')
    report = json.loads((tmp_path / 'new' / 'report.json').read_text('utf-8'))
    assert report['findings'] == [
        {
            'severity': 'error',
            'code': 'image.missing',
            'place': f'{custom.root}/train.jsonl, line 1',
            'description': 'gone.png is not there',
            'remedy': 'put the image there or remove its rows',
            'times': 1,
            'other_places': [],
        }
    ]
    said = capsys.readouterr()
    assert 'PlainReader train: 2 rows on 2 images' in said.out and 'checking 2/2' in said.err


@pytest.mark.parametrize('task', ['vqa', 'pretrain'])
def test_the_data_of_a_config_with_its_tokenizer(rooms, tmp_path, capsys, task):
    config = tiny_config(tmp_path / 'config.py', task=task, steps=1)
    # the tokenizer of so few texts does not know 1.5 % of the tokens of the validation captions
    assert run(config, '--json', tmp_path / 'report.json') == (task == 'pretrain')
    report = json.loads((tmp_path / 'report.json').read_text('utf-8'))
    assert [split['split'] for split in report['splits']] == ['train', 'val']
    assert all(split['text_length']['unit'] == 'tokens' for split in report['splits'])
    assert set(report['counts']) <= {'text.long', 'text.statement', 'tokenizer.unknown', 'answer.only_in_val'}
    assert report['images']['checked'] == sum(split['images'] for split in report['splits'])


def test_a_config_whose_data_is_not_there_is_an_error_with_the_way_to_get_it(rooms, tmp_path, capsys):
    config = tiny_config(tmp_path / 'config.py', steps=1)
    gone = f'train_dataloader.dataset.reader.data_root={tmp_path}/gone'
    assert run(config, '--cfg-options', gone) == 2
    assert 'set.refused' in (said := capsys.readouterr().out) and 'aihub.or.kr' in said


@pytest.mark.parametrize(
    'arguments, message',
    [(['nowhere'], 'error: nowhere: neither a config'), (['nowhere.py'], 'error: nowhere.py: no such config file')],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1 and not list(tmp_path.iterdir())
