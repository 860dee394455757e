"""The console's line after an evaluation is of the whole set; the record holds its parts too."""

from __future__ import annotations

import json


def test_parts_of_the_set_stay_out_of_the_line(build, tmp_path):
    build(tmp_path, steps=1, limit=48, save_every=10).train()
    (log,) = tmp_path.glob('*/*.log')
    (line,) = [line for line in log.read_text(encoding='utf-8').splitlines() if 'Iter(val) [1/1]' in line]
    assert ' accuracy: ' in line and ' tolerant_accuracy: ' in line and ' questions: ' in line and ' time: ' in line
    assert ' ece: ' in line and 'coverage_at_precision/' not in line
    assert 'accuracy/' not in line and 'questions_by_length/' not in line and len(line) < 500
    record = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    (found,) = [line for line in record if line['mode'] == 'val']
    assert any(key.startswith('accuracy/') for key in found)
    assert any(key.startswith('questions_by_length/') for key in found)
    assert 'coverage_at_precision/95' in found
