"""The benchmarks' work is what they say it is: batches keep the contract, and operations are counted, not guessed."""

import pytest
import torch
from tiny_models import tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import rounds, work
from kovilt.datasets import ResizeViLT
from kovilt.errors import KoviltError


@pytest.mark.parametrize('kind', ['ViLT', 'PrefixViLT'])
def test_operations_are_those_that_torch_counts(kind):
    model = tiny_model(type=kind, num_layers=3, vocab_size=work.VOCABULARY, max_text_len=20)
    model.vqa_head = type(model.vqa_head)(hidden_size=16, num_answers=7)
    chance = torch.Generator().manual_seed(0)
    batch = work.make_batch([(3, 4), (2, 5)], [7, 20, 5, 11, 9, 9], chance, pixels=192)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as all_products, torch.no_grad():
        model.scores(model.data_preprocessor(batch))
    with FlopCounterMode(display=False) as tables:  # of positions: nothing at base size, so left out
        for grid in set(map(tuple, batch['grids'].tolist())):
            model.encoder.image.positions(*grid)
    assert work.forward_flops(model, batch) == all_products.get_total_flops() - tables.get_total_flops()


def test_grids_are_those_that_resizing_gives_the_sizes_of_coco():
    resize = ResizeViLT(short=384, long=639, divisor=32)
    sizes = [(640, 480), (500, 375), (640, 427), (480, 640), (427, 640), (640, 640), (640, 360)]
    targets = [resize.target(*size) for size in sizes]
    assert {(height // 32, width // 32) for width, height in targets} == set(work.GRIDS)
    assert round(sum(rows * columns * share for (rows, columns), share in work.GRIDS.items()) / 100) == 199


def test_a_batch_shares_questions_out_evenly():
    chance = torch.Generator().manual_seed(0)
    grids, lengths = work.draw_grids(3, chance), work.draw_lengths(12, chance)
    batch = work.make_batch(grids, lengths, chance)
    assert batch['image_index'].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch['text_mask'].sum(dim=1).tolist() == lengths
    assert len(batch['patches']) == sum(rows * columns for rows, columns in grids)
    with pytest.raises(ValueError, match='5 questions about 2 images'):
        work.make_batch(grids[:2], lengths[:5], chance)


def test_each_way_is_done_once_a_round_and_ratios_are_of_rounds():
    done = []
    taken = rounds.time_in_turn({name: lambda n=name: done.append(n) for name in 'ab'}, rounds=3, warm_ups=1)
    assert len(done) == 8 and all(set(done[i : i + 2]) == {'a', 'b'} for i in range(0, 8, 2))
    assert {name: len(times) for name, times in taken.items()} == {'a': 3, 'b': 3}
    assert rounds.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0


def test_a_device_that_is_not_there_is_named():
    for name, message in (('tpu', 'give cpu or cuda'), ('cuda', 'no GPU here')):
        if name == 'cuda' and torch.cuda.is_available():
            continue
        with pytest.raises(KoviltError, match=message):
            rounds.prepare_device(name)
