"""The initial position table of images."""

import pytest
import torch

from kovilt.modules import ViLT
from kovilt.modules.initialization import sincos_positions


def test_neighbouring_positions_are_similar_and_no_two_are_equal():
    codes = sincos_positions(6, 32).unflatten(0, (6, 6))
    distance = (codes - codes[2, 3]).norm(dim=-1)
    assert distance[2, 3] == 0 and (distance.flatten().sort().values[1:] > 0.1).all()
    assert distance[2, 4] < distance[2, 5] and distance[3, 3] < distance[4, 3] < distance[5, 3]
    torch.testing.assert_close(codes.norm(dim=-1), torch.full((6, 6), 4.0))  # sin^2 + cos^2 for 16 rates


def test_pos_init_selects_the_initial_table():
    sizes = dict(hidden_size=32, num_layers=1, num_heads=4, vocab_size=40, max_text_len=12, patch_size=8, image_size=32)
    sizes |= dict(mlp_ratio=4.0, drop_rate=0.1)
    table = ViLT(**sizes, pos_init='sincos').image.pos_embed
    assert torch.equal(table[1:], sincos_positions(4, 32)) and table.requires_grad
    assert not torch.equal(ViLT(**sizes).image.pos_embed[1:], sincos_positions(4, 32))


def test_a_width_that_is_no_multiple_of_four_is_refused():
    with pytest.raises(ValueError, match='hidden_size 30 is not a multiple of 4'):
        sincos_positions(4, 30)
