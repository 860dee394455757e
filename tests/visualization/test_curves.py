import json
import math

import pytest
from PIL import Image

from kovilt.errors import KoviltError
from kovilt.visualization.curves import (
    Curve,
    Panel,
    describe_panel,
    draw_curves,
    draw_panel,
    read_metrics,
    run_panels,
    smooth,
    write_curves_csv,
)


def write(run, *rows, tail=''):
    run.mkdir(exist_ok=True)
    (run / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows) + tail, encoding='utf-8')


def test_training_and_validation_metrics_are_separate(tmp_path):
    write(
        tmp_path,
        {'mode': 'train', 'step': 50, 'epoch': 0, 'mlm_loss': 5.0, 'time': 1.0},
        {'mode': 'train', 'step': 100, 'epoch': 0, 'mlm_loss': 4.0, 'time': 2.0},
        {'mode': 'val', 'step': 100, 'epoch': 1, 'mlm_loss': 4.5, 'time': 3.0},
        {'mode': 'epoch', 'step': 100, 'epoch': 1, 'epoch_seconds': 9.0, 'time': 3.0},
    )
    assert read_metrics(tmp_path) == {'train/mlm_loss': ([50, 100], [5.0, 4.0]), 'val/mlm_loss': ([100], [4.5])}


def test_a_half_written_last_line_is_left_out_and_a_broken_line_named(tmp_path):
    row = {'mode': 'train', 'step': 1, 'loss': 1.0}
    write(tmp_path / 'a', row, tail='{"loss": 2')
    assert read_metrics(tmp_path / 'a') == {'train/loss': ([1], [1.0])}
    write(tmp_path / 'b', tail='{"loss"\n' + json.dumps(row) + '\n')
    with pytest.raises(KoviltError, match='metrics.jsonl, line 1'):
        read_metrics(tmp_path / 'b')


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(KoviltError, match='metrics.jsonl: no such file'):
        read_metrics(tmp_path)


def test_smoothing_keeps_a_constant_and_the_first_value():
    assert smooth([2.0] * 100) == [2.0] * 100
    assert smooth([7.0, 1.0], share=1.0) == [7.0, 4.0]


def test_a_number_that_is_none_is_in_the_means_of_its_window_alone():
    means = smooth([1.0] * 50 + [math.nan] + [1.0] * 149)
    assert [step for step, mean in enumerate(means) if math.isnan(mean)] == list(range(50, 56))
    assert {mean for mean in means if not math.isnan(mean)} == {1.0}


def test_curves_are_drawn_and_empty_panels_left_out(tmp_path):
    full = Panel('loss', 'nats', [Curve('L1', range(200), [1 / (1 + step) for step in range(200)])], {'floor': 0.1})
    out = draw_curves([full, Panel('empty', 'nats', [Curve('L2', [], [])])], tmp_path / 'new' / 'curves.png', 'run')
    with Image.open(out) as alone:
        assert alone.format == 'PNG' and alone.width < alone.height * 1.6  # one panel, not two
    with pytest.raises(KoviltError, match='nothing to draw'):
        draw_curves([Panel('empty', 'nats', [])], tmp_path / 'none.png')


def test_the_panels_of_a_run_are_its_losses_accuracies_and_rates():
    steps = [1, 2]
    metrics = {
        name: (steps, [0.5, 0.25])
        for name in (
            *('train/loss', 'train/vqa_loss', 'train/vqa_accuracy', 'train/lr/head.decay', 'train/grad_norm'),
            *('val/accuracy', 'val/accuracy/색', 'val/majority_accuracy', 'val/ceiling', 'val/questions'),
        )
    }
    panels = {panel.title: panel for panel in run_panels({'': metrics})}
    assert list(panels) == ['vqa_loss', 'accuracy', 'grad norm', 'learning rate']
    accuracy = panels['accuracy']
    assert [list(curve.values) for curve in accuracy.curves] == [[0.5, 0.25], [50.0, 25.0]]  # both in percent
    assert accuracy.levels == {'majority': 0.25, 'ceiling': 0.25}
    both = run_panels({'A': metrics, 'B': metrics})
    assert [curve.label for curve in both[0].curves] == ['A train', 'B train']
    assert draw_panel(both[0]).startswith(b'\x89PNG') and 'A train 0.5 at step 1' in describe_panel(both[0])
    assert run_panels({'': {}}) == []


def test_the_table_of_curves_has_a_row_for_each_record(tmp_path):
    rows = [{'mode': 'train', 'step': 1, 'loss': 2.0}, {'mode': 'epoch', 'step': 1}]
    rows += [{'mode': 'val', 'step': 1, 'epoch': 0, 'accuracy/색': None}]
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    table = write_curves_csv(tmp_path, tmp_path / 'curves.csv').read_text(encoding='utf-8-sig')
    assert table.splitlines() == ['mode,step,epoch,loss,accuracy/색', 'train,1,,2.0,', 'val,1,0,,']
