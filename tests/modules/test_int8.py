"""int8 layers: within half a step of each number, row by row, and exact where they say so."""

import pytest
import torch
from torch import nn

from kovilt.modules import int8
from kovilt.modules.int8 import Int8Linear, RowChunks, linear_slice, make_int8


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(37, 11)


@torch.no_grad()
def test_the_error_is_at_most_that_of_rounding(linear):
    """x w - x' w' = x (w - w') + (x - x') w', where a rounded number is half a step away at most."""
    x = torch.randn(9, 37) * torch.logspace(-3, 3, 9)[:, None]  # rows of very different sizes
    layer = Int8Linear(linear)
    half_x = x.abs().amax(dim=1, keepdim=True) / 254  # (R, 1)
    half_w = linear.weight.abs().amax(dim=1) / 254  # (N,)
    written = (layer.weight.float() * layer.scale[:, None]).abs().sum(dim=1)
    bound = x.abs().sum(dim=1, keepdim=True) * half_w + half_x * written
    error = (layer(x) - linear(x)).abs()
    assert (error <= bound * 1.001 + 1e-6).all() and error.max() > 0
    assert layer.weight.dtype == torch.int8 and layer.weight.abs().amax(dim=1).eq(127).all()


@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours_nor_an_output_on_the_others(linear):
    layer, x = Int8Linear(linear), torch.randn(6, 37)
    whole = layer(x)
    assert torch.equal(whole[2:4], layer(x[2:4])) and torch.equal(whole[:, 3:8], layer(x, slice(3, 8)))
    for kind in (layer, linear):
        torch.testing.assert_close(linear_slice(kind, x, slice(4, None)), kind(x)[:, 4:])


@torch.no_grad()
@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get('avx512_vnni'), reason='without AVX512-VNNI oneDNN has a slow kernel alone'
)
@pytest.mark.parametrize('count', [1, 5, 60])
def test_packed_weights_give_the_plain_products(count, monkeypatch, linear):
    layer, x = Int8Linear(linear), torch.randn(count, 37)
    found = []
    for packed in (True, False):
        monkeypatch.setattr(int8, '_has_packed_product', lambda packed=packed: packed)
        found.append((layer(x), layer(x, slice(2, 9))))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    assert len(layer._packed) == 2


@torch.no_grad()
def test_chunks_of_rows_change_nothing(monkeypatch):
    mlp, x = nn.Sequential(Int8Linear(nn.Linear(37, 50)), nn.GELU(), Int8Linear(nn.Linear(50, 37))), torch.randn(60, 37)
    expected = mlp(x)
    monkeypatch.setattr(int8, '_ROWS', 7)
    torch.testing.assert_close(RowChunks(mlp)(x), expected)
    assert RowChunks(mlp)(x[:0]).shape == (0, 37)


@torch.no_grad()
def test_rows_of_zeros_and_no_rows(linear):
    layer = Int8Linear(linear)
    assert torch.equal(layer(torch.zeros(2, 37)), linear.bias.expand(2, 11))
    assert layer(torch.zeros(0, 37)).shape == (0, 11)
    no_bias = nn.Linear(37, 11, bias=False)
    no_bias.weight.data[3] = 0  # an output that nothing reaches
    assert (Int8Linear(no_bias)(torch.randn(4, 37))[:, 3] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize('kind', ['joint', 'prefix'])
def test_an_encoder_in_int8_gives_nearly_the_same_states(vilt, prefix_vilt, batch, kind):
    """The states, whose standard deviation is 1, differ by less than 0.03 on average."""
    encoder = prefix_vilt if kind == 'prefix' else vilt

    def states(output: str) -> torch.Tensor:
        images = encoder.embed_images(batch['patches'], batch['grids'])
        return encoder(
            input_ids=batch['input_ids'],
            text_mask=batch['text_mask'],
            images=images,
            grids=batch['grids'],
            image_index=batch['image_index'],
            output=output,
        )

    expected = states('all')
    assert make_int8(encoder.blocks) == 8 and make_int8(encoder.image) == 1 and make_int8(encoder) == 1  # the pooler
    ours = states('all')
    difference = (ours.packed - expected.packed).abs()
    assert 0 < difference.mean() < 0.03 and difference.max() < 0.3
    torch.testing.assert_close(states('cls').cls(), ours.cls(), rtol=0, atol=1e-5)


def test_a_cpu_without_exact_int8_products_is_refused(monkeypatch, linear):
    monkeypatch.setattr(int8, '_is_exact', lambda: False)
    with pytest.raises(RuntimeError, match='no exact products of int8'):
        make_int8(nn.Sequential(linear))
