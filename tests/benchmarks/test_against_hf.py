"""The comparison with transformers runs, agrees with it, and does not lose a section to another's failure."""

import json
import re

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import against_hf

TOOL = 'benchmarks/against_hf.py'
SMALL = (
    '--width',
    64,
    '--layers',
    2,
    '--vocabulary',
    50,
    '--answers',
    9,
    '--rounds',
    1,
    '--batches',
    2,
    3,
    '--train-batches',
    2,
)


def test_both_sides_compute_the_same_and_every_number_is_kept(call, tmp_path):
    code, out, err = call(TOOL, *SMALL, '--out', tmp_path / 'numbers.json')
    assert code == 0, out + err
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert numbers['equality'][0]['largest_difference'] < 1e-5 and numbers['failed'] == []
    assert {row['within'] for row in numbers['equality'][1:]} == {'yes'}
    for section, batches in (('evaluation', [2, 3]), ('training', [2])):
        ours = [row for row in numbers[section] if row['variant'] == 'kovilt']
        assert [row['batch'] for row in ours] == batches
        assert all(0 < row['TFLOP/s'] < row['plain'] and row['ratio'] > 0 for row in ours)


def test_waits_are_only_sought_on_a_gpu_and_runs_of_the_runner_and_alignment_anywhere(call):
    code, out, _ = call(TOOL, *SMALL, '--sections', 'runner', 'alignment')
    assert code == 0 and 'steps of 2 under KoviltRunner' in out and '| default | 2 | no |' in out
    code, _, err = call(TOOL, *SMALL, '--sections', 'waits')
    assert code == 2 and '--sections waits: is of a GPU' in err
    code, _, err = call(TOOL, *SMALL, '--sections', 'speed')
    assert code == 2 and 'there are equality, evaluation' in err


def test_a_failing_section_leaves_the_others(call, monkeypatch):
    def fail(self, work):
        raise RuntimeError('no such luck')

    code, out, _ = call(TOOL, *SMALL, '--limit', 0)
    assert code == 1 and out.count('not begun') == 3
    monkeypatch.setattr('kovilt.models.vqa.ViLTForVQA.scores', fail)
    code, out, _ = call(TOOL, *SMALL, '--sections', 'evaluation', 'training')
    assert code == 1 and 'no such luck' in out and 'failed: evaluation\n' in out
    assert re.search(r'\| kovilt \| 2 \|', out)


def test_a_plain_vilt_computes_the_last_block_whole():
    args = against_hf.argparse.Namespace(width=64, layers=2, answers=9, vocabulary=50, device='cpu')
    model, work = against_hf.make_sides(args).kovilt, against_hf.make_work(2, args)
    batch = model.data_preprocessor(work.ours)
    counted = []
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for output in ('cls', 'all'):
            images = model.encoder.embed_images(batch['patches'], batch['grids'])
            with FlopCounterMode(display=False) as counter:
                model.encoder(
                    input_ids=batch['input_ids'],
                    text_mask=batch['text_mask'],
                    images=images,
                    grids=batch['grids'],
                    image_index=batch['image_index'],
                    output=output,
                )
            counted.append(counter.get_total_flops())
    ours, plain = (against_hf.flops(model, work, training=False, plain=plain) for plain in (False, True))
    assert plain - ours == counted[1] - counted[0]
    pixels = 2 * len(batch['patches']) * 3072 * 64
    assert against_hf.flops(model, work, training=True) == 3 * ours - pixels
