"""The benchmark of the optimizers' steps times each of them on the same matrices."""

from __future__ import annotations

from pathlib import Path

from benchmarks import optimizer_step

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'rooms' / 'vqa.py'


def test_each_optimizer_is_timed(capsys):
    optimizer_step.main(optimizer_step.parse_args([str(CONFIG), '--rounds', '1']))
    out = capsys.readouterr().out
    rows = [line.split(' | ') for line in out.splitlines() if line.startswith('| ') and ' ms ' not in line]
    assert [row[0] for row in rows] == [
        '| MuonAdamW, float32',
        '| MuonAdamW, bfloat16',
        '| torch.optim.Muon, bfloat16, and AdamW',
        '| AdamW',
    ]
    assert '16 matrices' in out and rows[0][2] == '1.00 |' and float(rows[3][1]) < float(rows[0][1])
