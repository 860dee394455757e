import json

import pytest
from PIL import Image

from kovilt.errors import KoviltError
from kovilt.visualization.curves import Curve, Panel, draw_curves, read_scalars, smooth


def write(run, start, rows, tail=''):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows) + tail, encoding='utf-8')


def test_a_resumed_run_reads_as_one(tmp_path):
    train = [{'loss': 5.0 - step / 10, 'iter': step, 'step': step} for step in range(10, 50, 10)]
    write(tmp_path, '20260101_000000', train)
    write(tmp_path, '20260101_010000', [{'loss': 1.0, 'iter': step, 'step': step} for step in (30, 40, 50)])
    assert read_scalars(tmp_path)['loss'] == ([10, 20, 30, 40, 50], [4.0, 3.0, 1.0, 1.0, 1.0])


def test_validation_stands_at_the_training_step_it_follows(tmp_path):
    rows = [{'loss': 1.0, 'iter': 40, 'step': 40, 'epoch': 1}, {'vqa/accuracy': 12.5, 'step': 1}]
    write(tmp_path, '20260101_000000', rows)
    assert read_scalars(tmp_path)['vqa/accuracy'] == ([40], [12.5])


def test_a_half_written_last_line_is_left_out_and_a_broken_line_named(tmp_path):
    write(tmp_path / 'a', '1', [{'loss': 1.0, 'iter': 1, 'step': 1}], tail='{"loss": 2')
    assert read_scalars(tmp_path / 'a')['loss'] == ([1], [1.0])
    write(tmp_path / 'b', '1', [], tail='{"loss"\n{"loss": 1.0, "iter": 1, "step": 1}\n')
    with pytest.raises(KoviltError, match='scalars.json, line 1'):
        read_scalars(tmp_path / 'b')


def test_a_folder_without_scalars_is_named(tmp_path):
    with pytest.raises(KoviltError, match='is it the work folder'):
        read_scalars(tmp_path)


def test_smoothing_keeps_a_constant_and_the_first_value():
    assert smooth([2.0] * 100) == [2.0] * 100
    assert smooth([7.0, 1.0], share=1.0) == [7.0, 4.0]


def test_curves_are_drawn_and_empty_panels_left_out(tmp_path):
    full = Panel('loss', 'nats', [Curve('L1', range(200), [1 / (1 + step) for step in range(200)])], {'floor': 0.1})
    out = draw_curves([full, Panel('empty', 'nats', [Curve('L2', [], [])])], tmp_path / 'new' / 'curves.png', 'run')
    with Image.open(out) as alone:
        assert alone.format == 'PNG' and alone.width < alone.height * 1.6  # one panel, not two
    with pytest.raises(KoviltError, match='nothing to draw'):
        draw_curves([Panel('empty', 'nats', [])], tmp_path / 'none.png')
