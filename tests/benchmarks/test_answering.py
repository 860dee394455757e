"""The benchmark of bulk answers measures both variants on the same rows."""

import json

import numpy as np
from PIL import Image
from tiny_models import tiny_checkpoint


def test_both_variants_have_a_rate_and_a_share(call_benchmark, tmp_path):
    model = tiny_checkpoint(tmp_path)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / 'a.png')
    lines = [json.dumps({'image': 'a.png', 'question': '의자가 있어요 ?'}) for _ in range(5)]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(lines) + '\n')
    code, out, err = call_benchmark('answering', model, tmp_path / 'rows.jsonl', '--rounds', 1, '--workers', 1)
    assert code == 0, err
    assert '5 questions, 1 workers' in out
    rows = [line.split(' | ') for line in out.splitlines() if line.startswith(('| the model', '| kovilt'))]
    assert len(rows) == 2 and rows[0][2].startswith('100 %') and all(float(row[1].replace(',', '')) > 0 for row in rows)
