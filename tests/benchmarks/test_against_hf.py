"""The comparison with transformers measures both models, and an error in one section leaves the others to run."""

import json
import re

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.against_hf_models import BothModels, ModelSize, batch_flops, make_both_batches
from benchmarks.flops import without_numbers

SMALL = '--width 64 --layers 2 --vocabulary 50 --answers 9 --rounds 1 --batches 2 3 --train-batches 2'.split()


def test_every_number_of_both_models_is_written(call_benchmark, tmp_path):
    code, out, err = call_benchmark('against_hf', *SMALL, '--out', tmp_path / 'numbers.json')
    assert code == 0, out + err
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert numbers['failed'] == []
    for section, batches in (('evaluation', [2, 3]), ('training', [2])):
        ours = [row for row in numbers[section] if row['variant'] == 'kovilt']
        assert [row['batch'] for row in ours] == batches
        assert all(0 < row['TFLOP/s'] < row['plain TFLOP/s'] and row['ratio'] > 0 for row in ours)
        assert section == 'training' or all(row['scores differ by'] < 1e-5 for row in ours)


def test_runner_and_alignment_run_on_any_device_and_host_waits_on_a_gpu_only(call_benchmark):
    code, out, _ = call_benchmark('against_hf', *SMALL, '--sections', 'runner', 'alignment')
    assert code == 0 and '12 steps of 2 pairs under KoviltRunner' in out and '| small beta | 2 | no |' in out
    code, _, err = call_benchmark('against_hf', *SMALL, '--sections', 'waits')
    assert code == 2 and '--sections waits: it measures a GPU' in err
    code, _, err = call_benchmark('against_hf', *SMALL, '--sections', 'speed')
    assert code == 2 and 'choose among evaluation, training' in err


def test_a_failing_section_leaves_the_others(call_benchmark, monkeypatch):
    def fail(self, batch):
        raise RuntimeError('out of luck')

    code, out, _ = call_benchmark('against_hf', *SMALL, '--limit', 0)
    assert code == 1 and out.count('not started') == 2
    monkeypatch.setattr('kovilt.models.vqa.ViLTForVQA.scores', fail)
    code, out, _ = call_benchmark('against_hf', *SMALL, '--sections', 'evaluation', 'runner')
    assert code == 1 and 'out of luck' in out and 'failed: evaluation\n' in out
    assert re.search(r'12 steps of 2 pairs', out)


def test_a_plain_vilt_computes_the_last_block_whole():
    size = ModelSize(hidden_size=64, num_layers=2, vocab_size=50, num_answers=9)
    models, batches = BothModels(size, 'cpu'), make_both_batches(2, size, 'cpu')
    model, counts = without_numbers(models.kovilt), []
    batch = model.data_preprocessor({**batches.kovilt, 'patches': batches.kovilt['patches'].to('meta')})
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
            counts.append(counter.get_total_flops())
    ours, plain = (batch_flops(models, batches, training=False, plain=plain) for plain in (False, True))
    assert plain - ours == counts[1] - counts[0]
    pixels = 2 * len(batch['patches']) * 3072 * 64
    assert batch_flops(models, batches, training=True) == 3 * ours - pixels
