"""Wrong configs and command lines that `test_config_values.py` does not hold; the numbers are of a catalogue of 34."""

from __future__ import annotations

import logging
import re

import pytest
from tiny_rooms import CONFIGS, tiny_config

from kovilt.engine.config import load_config
from kovilt.engine.config_options import parse_option
from kovilt.errors import KoviltError
from kovilt.registry import RUNNERS

VQA = CONFIGS / 'rooms' / 'vqa.py'


def refused(call, *arguments: object) -> str:
    """The one line with which a command ends, with exit code 2."""
    code, _, error = call(*arguments)
    assert code == 2 and error.startswith('error: ') and error.count('\n') == 1, (code, error)
    return error


@pytest.mark.parametrize(
    ('arguments', 'due'),
    [
        (['train', 'none.py'], 'none.py: no such config file'),                                        # 1
        (['train', str(CONFIGS)], 'configs: no data set that kovilt knows .*; give a config'),          # 2
        (['train', VQA, '--cfg-options', 'a.b'], 'write KEY=VALUE'),                                    # 24
        (['train', VQA, '--cfg-options', 'model.encoder.pos_init=[sincos'], "pos_init is '\\[sincos'"),  # 25
        (['train', VQA, '--cfg-options', 'model.encoder.hidden_size={"a": 1}'], 'hidden_size'),  # 26
        (['train', VQA, '--resume', 'none.pth'], 'none.pth: no such'),                                  # 27
        (['train', VQA, '--epochs', '3'], 'unrecognized arguments|--epochs'),                           # 30
        (['train', VQA, '--amp', 'float16'], 'float16 needs a CUDA device'),                            # 31
        (['train', VQA, '--seed', '-1'], 'randomness.seed is -1; it must be at least 0'),
        (['train', VQA, '--launcher', 'slurm'], 'SLURM_PROCID is not set'),
        (['train', VQA, '--launcher', 'pytorch'], 'RANK is not set'),
        (['test', VQA, 'none.pth'], 'none.pth: no such'),
    ],
)  # fmt: skip
def test_commands_end_with_one_line(call, rooms, tmp_path, monkeypatch, arguments, due):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / 'work'
    error = refused(call, *arguments, '--work-dir', work, *([] if '--cfg-options' in arguments else ()))
    assert re.search(due, error), error
    assert not work.exists()


def test_a_work_folder_that_cannot_be_one(call, rooms, tmp_path):  # 29
    (tmp_path / 'file').write_text('')
    config = tiny_config(tmp_path / 'tiny.py', steps=1)
    for place in ('file', 'file/below'):
        assert 'work-dir' in refused(call, 'train', config, '--work-dir', tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'tiny.py']


@pytest.mark.parametrize(
    ('options', 'due'),
    [
        (['model.encoder.num_heads=5'], 'tiny.py: model: hidden_size 16 is not a multiple of num_heads 5'),       # 14
        (['model.encoder.image_size=72'], 'tiny.py: model: image_size 72 is not a multiple of patch_size 16'),    # 15
        (['model.encoder.vocab_size=7'], 'model.encoder.vocab_size is 7, but the tokenizer has'),                 # 16
        (['model.vqa_head.num_answers=3'], 'model.vqa_head.num_answers is 3, but the training data has'),         # 17
        (['model.encoder.max_text_len=20'], 'model.encoder.max_text_len is 20, but texts are cut to'),            # 18
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_told_before_the_first_step(rooms, tmp_path, options, due):
    path = tiny_config(tmp_path / 'tiny.py', steps=1)
    with pytest.raises(KoviltError, match=due) as error:
        config = load_config(path, options)
        config.work_dir = str(tmp_path / 'work')
        RUNNERS.build(config).train()
    assert '\n' not in str(error.value) and not (tmp_path / 'work').exists()


def test_batches_above_the_data_and_warm_ups_of_the_whole_run_are_warned_of(rooms, tmp_path, caplog):  # 11, 13
    config = load_config(
        tiny_config(tmp_path / 'tiny.py', steps=2, limit=48),
        ['train_dataloader.batch_size=64', 'param_scheduler.warmup=5'],
    )
    config.work_dir = str(tmp_path / 'work')
    runner = RUNNERS.build(config)
    runner.logger.propagate = True
    with caplog.at_level(logging.WARNING):
        runner.train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text(encoding='utf-8')
    assert re.search('train_dataloader.batch_size: a step takes 64 pairs, but the training data has 48', log)
    assert re.search('the warm-up takes all 2 steps of the run', log)


def test_texts_that_hold_code_stay_texts(tmp_path):  # 33
    marker = tmp_path / 'ran'
    for text in (f'__import__("os").mkdir("{marker}")', f'$(mkdir {marker})', f'`mkdir {marker}`', '{{ fileDirname }}'):
        assert parse_option(f'experiment_name={text}')[1] == text
        assert load_config(VQA, [f'experiment_name={text}']).experiment_name == text
    assert not marker.exists()


def test_hangul_and_blanks_in_every_path(call, rooms, tmp_path):  # 34
    folder = tmp_path / '내 실험 폴더'
    folder.mkdir()
    config = tiny_config(folder / '작은 설정.py', steps=1)
    assert call('train', config, '--work-dir', folder / '작업 폴더')[0] == 0
    code, output, _ = call('test', config, folder / '작업 폴더', '--out', folder / '예측 결과.jsonl')
    assert code == 0 and (folder / '예측 결과.jsonl').is_file()
    assert '작업 폴더/best_accuracy_iter_1.pth' in output  # of a work folder the best checkpoint
