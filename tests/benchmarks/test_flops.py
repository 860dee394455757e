"""FLOPs are those of kovilt's matrix products: counted without numbers they equal the sums written out by hand."""

import pytest
import torch
from tiny_models import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import fixtures
from benchmarks.flops import forward_flops, without_numbers


@pytest.mark.parametrize('encoder', ['ViLT', 'PrefixViLT'])
def test_flops_are_those_of_the_matrix_products(encoder):
    """A block's linear layers take 2 (4 D^2 + 2 D M) a state, attention of x states to y states 4 x y D.

    The last block computes keys and values of all states, and the rest for the text's [CLS] alone.
    """
    answers = [str(number) for number in range(7)]
    model = tiny_model(type=encoder, num_layers=3, vocab_size=fixtures.VOCAB_SIZE, max_text_len=20, answers=answers)
    grids, lengths = [(3, 4), (2, 5)], [7, 20, 5, 11, 9, 9]
    rng = torch.Generator().manual_seed(0)
    batch = fixtures.make_batch(grids, lengths, rng, patch_size=8)
    d, mlp, blocks = 16, 64, 3

    def linear(states):
        return 2 * states * (4 * d**2 + 2 * d * mlp)

    def attention(queries, keys):
        return 4 * queries * keys * d

    images = [rows * columns + 1 for rows, columns in grids]  # with their CLS
    keys = [length + images[index] for length, index in zip(lengths, batch['image_index'].tolist(), strict=True)]
    prefix = encoder == 'PrefixViLT'  # texts attend to the image, whose states are computed once
    queries = lengths if prefix else keys
    expected = sum(linear(q) + attention(q, k) for q, k in zip(queries, keys, strict=True)) * (blocks - 1)
    expected += sum(4 * q * d**2 + attention(1, k) for q, k in zip(queries, keys, strict=True))
    expected += len(lengths) * (linear(1) - 4 * d**2)  # its keys and values are among those of all states
    if prefix:
        expected += sum(linear(n) + attention(n, n) for n in images) * (blocks - 1) + sum(4 * n * d**2 for n in images)
    expected += 2 * len(batch['patches']) * batch['patches'].shape[1] * d  # the patch embedding
    expected += 2 * len(lengths) * (d**2 + 2 * d * d + 2 * d * len(answers))  # pooler; both layers of the answer head
    with FlopCounterMode(display=False) as positions, torch.no_grad():  # resizing the image's position table
        for grid in grids:
            model.encoder.image.positions(*grid)
    assert forward_flops(model, batch) == expected + positions.get_total_flops()


def test_the_copy_without_numbers_leaves_the_model_alone():
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = without_numbers(model.train())
    assert {parameter.device.type for parameter in copy.parameters()} == {'meta'} and not copy.training
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
