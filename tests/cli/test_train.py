"""`kovilt train` and `kovilt test` as a user meets them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_rooms import CONFIGS, tiny_config

from kovilt.cli.main import main
from kovilt.engine.config import load_config
from kovilt.engine.hooks.no_report import REPORT_FILES


@pytest.fixture(scope='module')
def trained(rooms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    config = tiny_config(folder / 'tiny.py', steps=3, save_every=2)
    arguments = ['train', config, '--amp', '--seed', 7, '--work-dir', folder / 'work']
    arguments += ['--cfg-options', 'train_dataloader.num_workers=1']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['kovilt', *map(str, arguments)])  # the record of a run holds its command
        assert main(sys.argv[1:]) == 0
    return folder


def test_a_run_leaves_its_record(trained):
    work = trained / 'work'
    names = {path.name for path in work.iterdir()}
    assert {'iter_2.pth', 'iter_3.pth', 'tiny.py', 'last_checkpoint'} <= names
    assert not names & {'report.html', 'predictions.jsonl', 'curves.png', 'model'}  # KOVILT_NO_REPORT
    assert load_config(work / 'tiny.py').optim_wrapper.precision in ('float32', 'bfloat16')
    environment = json.loads((work / 'environment.json').read_text(encoding='utf-8'))
    assert environment['seed'] == 7 and environment['packages']['torch'] and '--amp' in environment['command']
    data = json.loads((work / 'data.json').read_text(encoding='utf-8'))
    assert data['train']['reader'] == 'AIHubLivingReader' and data['train']['rows'] > data['val']['rows'] > 0
    lines = [json.loads(line) for line in (work / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    assert [line['mode'] for line in lines] == ['train'] * 3 + ['val', 'epoch']
    assert {'loss', 'vqa_loss', 'vqa_accuracy', 'grad_norm', 'lr/encoder.decay', 'lr/head.no_decay'} <= lines[0].keys()
    assert lines[3]['majority_accuracy'] > 0 and lines[4]['epoch_seconds'] > 0


def test_a_resumed_run_goes_on(trained, call):
    """Without a report, and without that of the steps before."""
    arguments = [trained / 'tiny.py', '--amp', '--seed', 7, '--resume', '--work-dir', trained / 'work']
    earlier = [trained / 'work' / name for name in (*REPORT_FILES, 'model')]
    for file in earlier:
        file.write_text('of three steps')
    assert call('train', *arguments)[0] == 0 and all(file.exists() for file in earlier)  # it took no step
    arguments += ['--load-from', 'ignored.pth', '--cfg-options', 'train_cfg.max_iters=4']
    code, out, error = call('train', *arguments)
    assert code == 0, error
    assert [file.name for file in earlier if file.exists()] == ['model']
    earlier[-1].unlink()
    assert 'resumed epoch: 0, iter: 3' in out
    steps = [json.loads(line)['step'] for line in (trained / 'work' / 'metrics.jsonl').read_text().splitlines()]
    assert max(steps) == 4


WRONG = {
    'misspelt option': (['{vqa}', '--cfg-options', 'model.encoder.hiden_size=3'], "did you mean 'hidden_size'"),
    'misspelt config': (['{vqa}x'], 'no such config file'),
    'missing data': (['{vqa}', '--cfg-options', 'train_dataloader.dataset.reader.data_root=/nowhere'], 'kovilt rooms'),
    'missing checkpoint': (['{tiny}', '--load-from', 'none.pth'], 'none.pth: no such checkpoint file'),
    'work-dir beneath a file': (['{tiny}', '--work-dir', '{tiny}/work'], 'cannot write there'),
    'nothing to train': (['{runtime}'], 'the config has no .model.'),
}


@pytest.mark.parametrize('name', WRONG)
def test_bad_input_is_one_line_and_leaves_nothing(name, rooms, tmp_path, call):
    arguments, message = WRONG[name]
    tiny = tiny_config(tmp_path / 'tiny.py', steps=1)
    places = {'vqa': CONFIGS / 'rooms' / 'vqa.py', 'tiny': tiny, 'runtime': CONFIGS / '_base_' / 'runtime.py'}
    if '--work-dir' not in arguments:
        arguments = [arguments[0], '--work-dir', str(tmp_path / 'work'), *arguments[1:]]
    code, _, error = call('train', *(argument.format(**places) for argument in arguments))
    assert code == 2
    assert error.startswith('error: ') and error.count('\n') == 1 and re.search(message, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['tiny.py']


@pytest.mark.parametrize(('config', 'number'), [('kovilt_pretrain_coco.py', '261'), ('kovilt_vqa_aihub.py', '101')])
def test_full_size_data_that_is_absent_says_where_to_get_it(config, number, rooms, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('KOVILT_TOKENIZER', str(rooms / 'tokenizer'))
    code, _, error = call('train', CONFIGS / config)
    assert code == 2 and error.count('\n') == 1
    assert 'aihub.or.kr' in error and f'dataSetSn={number}' in error
    assert not list(tmp_path.glob('work_dirs/*'))


SMALL = (
    'model.encoder.hidden_size=16',
    'model.encoder.num_layers=1',
    'model.encoder.num_heads=2',
    'train_cfg.max_epochs=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=false',
    'val_dataloader.num_workers=0',
)


def test_a_folder_of_ones_own_trains_without_code(rooms, tmp_path, call, monkeypatch):
    monkeypatch.setenv('KOVILT_TOKENIZER', str(rooms / 'tokenizer'))
    monkeypatch.setenv('KOVILT_CUSTOM', str(tmp_path / 'mine'))
    entry, work = CONFIGS / 'kovilt_vqa_custom.py', tmp_path / 'work'
    code, _, error = call('train', entry, '--work-dir', work)
    assert code == 2 and error.count('\n') == 1 and 'no such folder. Put train.jsonl and val.jsonl' in error

    (tmp_path / 'mine').mkdir()
    Image.new('RGB', (64, 64), 'red').save(tmp_path / 'mine' / 'a.png')
    row = {'image': 'a.png', 'question': '소파는 무슨 색이에요?'}
    rows = [{**row, 'answer': answer} for answer in ('빨간색', '파란색')]
    for name in ('train.jsonl', 'val.jsonl'):
        (tmp_path / 'mine' / name).write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    assert call('train', entry, '--work-dir', work, '--cfg-options', *SMALL)[0] == 0
    lines = [json.loads(line) for line in (work / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    (evaluated,) = [line for line in lines if line['mode'] == 'val']
    assert evaluated['questions'] == 2 and evaluated['coverage'] == 100


def test_testing_names_what_it_cannot_do(trained, tmp_path, call):
    tiny, checkpoint = trained / 'tiny.py', trained / 'work' / 'iter_3.pth'
    code, _, error = call('test', tiny, 'none.pth', '--work-dir', tmp_path / 'work')
    assert code == 2 and error == 'error: none.pth: no such checkpoint file\n'
    code, _, error = call('test', tiny, checkpoint, '--work-dir', tmp_path / 'work', '--out', tmp_path)
    assert code == 2 and 'this is a folder' in error
    code, _, error = call(
        'test',
        tiny,
        checkpoint,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'model.encoder.num_layers=3',
    )
    assert code == 2 and 'not a checkpoint of this ViLTForVQA' in error
    pretrain = tiny_config(tmp_path / 'pretrain.py', task='pretrain', steps=1)
    code, _, error = call('test', pretrain, checkpoint, '--work-dir', tmp_path / 'work')
    assert code == 2 and 'not a checkpoint of this ViLTForPreTraining; it is ViLTForVQA' in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ['pretrain.py']
