"""benchmarks.model_cost on a tiny model."""

from __future__ import annotations

import json

from tiny_rooms import tiny_config

from kovilt.engine.config import load_config


def test_it_counts_what_a_question_costs_and_times_steps_in_turn(rooms, tmp_path, call_benchmark):
    config = tiny_config(tmp_path / 'tiny.py', steps=1)
    words = ['--batches', 2, '--rounds', 3, '--out', tmp_path / 'cost.json']
    code, out, error = call_benchmark(
        'model_cost',
        '--model',
        'small',
        config,
        '--model',
        'deep',
        config,
        'model.encoder.num_layers=3',
        *words,
    )
    assert code == 0 and 'questions/s' in out, error
    models = json.loads((tmp_path / 'cost.json').read_text(encoding='utf-8'))['models']
    small, deep = models['small'], models['deep']
    d, encoder = 16, load_config(config).model.encoder
    assert encoder.hidden_size == d
    assert deep['parameters'] - small['parameters'] == 12 * d**2 + 13 * d  # a block
    assert small['rows'] == deep['rows'] and small['questions_per_step'] == 16 and len(small['rounds']) == 3
    # The block in the middle is a whole one, 12 n d^2 + 2 n^2 d for n tokens and patches: 16 to 28 patches and CLS, and
    # 5 to 24 tokens.
    block = deep['multiply_adds'] - small['multiply_adds']
    assert 12 * 22 * d**2 + 2 * 22**2 * d <= block <= 12 * 53 * d**2 + 2 * 53**2 * d


def test_a_config_that_does_not_exist_is_one_line(call_benchmark):
    code, _, error = call_benchmark('model_cost', '--model', 'A', 'no.py', '--rounds', 2)
    assert code == 2 and error.startswith('error: no.py: no such config file')
