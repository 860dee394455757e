"""The benchmark of precisions: a row for each way of answering, and the accuracy of each on the same questions."""

import json

import numpy as np
import pytest
from tiny_models import tiny_model
from tiny_rooms import tiny_config

from benchmarks import fixtures, precision
from kovilt.errors import KoviltError


def test_each_way_of_answering_has_its_rows(monkeypatch, capsys):
    answers = [str(number) for number in range(fixtures.NUM_ANSWERS)]
    model = tiny_model(vocab_size=fixtures.VOCAB_SIZE, max_text_len=40, patch_size=32, image_size=64, answers=answers)
    monkeypatch.setattr(precision, 'base_model', lambda: model)
    precision.main(precision.parse_args(['--batches', '1', '3', '--rounds', '1']))
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines()[-8:]]
    names = ['transformers, float32', 'kovilt, float32', 'kovilt, bfloat16', 'kovilt, int8']
    assert [row[:2] for row in rows] == [[f'| {pairs}', name] for pairs in (1, 3) for name in names]
    off = [float(row[-1].rstrip(' |')) for row in rows]
    assert max(off[0], off[4]) < 1e-3 and off[1] == off[5] == 0
    assert all(1e-3 < value < 0.3 for value in (*off[2:4], *off[6:]))


def test_accuracy_is_that_of_the_validation_data(rooms, tmp_path, call, capsys):
    config, out = tiny_config(tmp_path / 'tiny.py', steps=1), tmp_path / 'predictions.jsonl'
    wide = 'model.encoder.init_std=0.4'  # answers depend on images and questions
    assert call('train', config, '--work-dir', tmp_path / 'work', '--seed', 0, '--cfg-options', wide)[0] == 0
    assert call('export', tmp_path / 'work', tmp_path / 'model')[0] == 0
    assert call('test', config, tmp_path / 'model', '--out', out)[0] == 0
    precision.main(precision.parse_args(['--model', str(tmp_path / 'model'), '--config', str(config)]))
    lines = capsys.readouterr().out.splitlines()
    for name in ('bfloat16', 'int8'):  # kovilt test computes in them, too
        other = tmp_path / f'{name}.jsonl'
        assert call('test', config, tmp_path / 'model', '--out', other, '--precision', name)[0] == 0
        scores = [
            [json.loads(line)['topk'][0]['score'] for line in file.read_text('utf-8').splitlines()]
            for file in (out, other)
        ]
        assert 0 < np.abs(np.subtract(*scores)).mean() < 0.05
    right = [line.count('"correct": true') for line in out.read_text(encoding='utf-8').splitlines()]
    first, *others = (line.split(' | ') for line in lines[-3:])
    assert first[:3] == ['| float32', f'{100 * np.mean(right):.2f}', '+0.00']
    assert [row[0] for row in others] == ['| bfloat16', '| int8']
    assert lines[0].endswith(f'{len(right):,} questions, accuracy in percent')


def test_what_cannot_be_measured_is_named(tmp_path):
    for arguments, message in (
        (['--model', 'x'], 'give both'),
        (['--model', str(tmp_path / 'none'), '--config', 'x'], 'no such model folder'),
    ):
        with pytest.raises(KoviltError, match=message):
            precision.main(precision.parse_args(arguments))
