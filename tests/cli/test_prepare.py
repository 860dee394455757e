"""The tool prepares a config's data, and a run on it takes the steps of a run on the files."""

import json
from pathlib import Path

import pytest
from tiny_rooms import tiny_config

from kovilt.cli.main import main
from kovilt.engine.config import load_config
from kovilt.registry import RUNNERS

PREPARED = """
_base_ = {base!r}
images = [dict(type='LoadPrepared')]
train_dataloader = dict(dataset=dict(
    reader=dict(type='PreparedReader', data_root={out!r}), image_pipeline=images, answers={out!r} + '/answers.json'))
val_dataloader = dict(dataset=dict(reader=dict(type='PreparedReader', data_root={out!r}), image_pipeline=images))
"""


def run(*arguments) -> int:
    return main(['prepare', *map(str, arguments)])


def metrics(config: Path, work_dir: Path) -> list[dict]:
    RUNNERS.build(load_config(config, overrides={'work_dir': str(work_dir)})).train()
    rows = map(json.loads, (work_dir / 'metrics.jsonl').read_text('utf-8').splitlines())
    return [{key: row[key] for key in row if 'loss' in key or 'accuracy' in key} for row in rows]


def test_training_takes_the_same_steps(rooms, tmp_path, capsys):
    config = tiny_config(tmp_path / 'files.py', steps=3, save_every=3)
    out = tmp_path / 'out'
    assert run(config, out, '--workers', 1) == 0
    said = capsys.readouterr().out
    assert f'{out}: about' in said and f'{out} train: ' in said and f'{out} val: ' in said
    prepared = tmp_path / 'prepared.py'
    prepared.write_text(PREPARED.format(base=str(config), out=str(out)), 'utf-8')
    expected = metrics(config, tmp_path / 'a')
    assert any('loss' in row for row in expected) and metrics(prepared, tmp_path / 'b') == expected
    capsys.readouterr()
    assert run(config, out) == 0 and capsys.readouterr().out.splitlines()[-1] == f'{out}: already there'
    assert run('--verify', out) == 0 and 'as they were prepared' in capsys.readouterr().out


def test_rows_and_the_validation_split_are_sampled_by_seed(rooms, tmp_path, capsys):
    config = tiny_config(tmp_path / 'files.py', steps=1)
    arguments = [config, tmp_path / 'out', '--rows', 20, '--val-rows', 9, '--seed', 3, '--no-images']
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert 'train: 20 rows' in said and 'val: ' in said and 'test: ' in said
    assert run(*arguments[:-2], 4, '--no-images') == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith('error: ') and 'holds other prepared data' in shown and 'seed 3, not 4' in shown


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere.py', 'out'], 'error: nowhere.py: no such config file'),
        (['--verify', 'nowhere'], 'error: nowhere: not prepared data'),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(message) and len(shown.splitlines()) == 1


@pytest.mark.parametrize('arguments', [[], ['a.py'], ['a.py', 'b', '--verify', 'b'], ['a.py', 'b', '--rows', '0']])
def test_wrong_arguments_are_refused(arguments, capsys):
    try:
        code = run(*arguments)
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    assert code == 2 and capsys.readouterr().err.startswith('error: ')


def test_a_folder_is_prepared_and_written_for_others(rooms, tmp_path, capsys):
    data = tmp_path / 'mine'
    data.mkdir()
    images = sorted((rooms / 'captions' / 'train2014').iterdir())[:4]
    rows = [{'사진': image.name, 'question': '소파가 있어요?', 'answer': '예'} for image in images]
    for image in images:
        (data / image.name).write_bytes(image.read_bytes())
    for split, part in (('train', rows[:3]), ('val', rows[3:])):
        (data / f'{split}.jsonl').write_text('\n'.join(map(json.dumps, part)) + '\n', encoding='utf-8')
    arguments = [data, tmp_path / 'out', '--columns', 'image=사진']
    assert run(*arguments, '--to', 'parquet') == 0
    said = capsys.readouterr().out
    assert f'{tmp_path}/out train: 3 rows on 3 images in 1 files' in said and 'out val: 1 rows' in said
    assert run(*arguments, '--to', 'parquet') == 2 and 'give --overwrite' in capsys.readouterr().err
    assert run(*arguments, '--to', 'hf', '--overwrite', '--rows', 2) == 0
    assert 'out train: 2 rows' in capsys.readouterr().out
    assert run(tmp_path / 'out', tmp_path / 'prepared', '--workers', 1) == 0  # what was written is read as any other
    assert 'prepared train: 2 rows on 2 images' in capsys.readouterr().out
    assert main(['browse', str(tmp_path / 'out'), '--out', str(tmp_path / 'shown'), '--count', '2']) == 0
    assert '소파가 있어요?' in (tmp_path / 'shown' / 'index.html').read_text('utf-8')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--to', 'hf', '--no-images'), '--no-images: --to writes rows with their images'),
        (('--columns', 'image=사진'), '--columns is for a folder; rooms/vqa is a config'),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, options, message):
    assert run('rooms/vqa', tmp_path / 'out', *options) == 2
    assert message in capsys.readouterr().err


def test_columns_of_a_config_are_refused_by_all_that_take_a_folder(capsys):
    for verb in ('browse', 'verify'):
        assert main([verb, 'rooms/vqa', '--columns', 'image=사진']) == 2
        assert '--columns is for a folder; rooms/vqa is a config' in capsys.readouterr().err
