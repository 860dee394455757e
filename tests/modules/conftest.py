"""A small encoder and a batch in kovilt's contract."""

import pytest
import torch

from kovilt.modules import PrefixViLT, ViLT

TEXT_LENGTHS = (9, 5, 7, 5, 3, 9)
GRIDS = ((4, 4), (4, 6), (3, 5))
IMAGE_INDEX = (0, 0, 1, 1, 2, 2)
SIZES = dict(
    hidden_size=32, num_layers=2, num_heads=4, vocab_size=40, max_text_len=12, patch_size=8, image_size=32,
    mlp_ratio=4.0, drop_rate=0.1,
)  # fmt: skip


@pytest.fixture
def vilt() -> ViLT:
    torch.manual_seed(0)
    return ViLT(**SIZES, init_std=0.2).eval()


@pytest.fixture
def prefix_vilt(vilt: ViLT) -> PrefixViLT:
    """A PrefixViLT with the weights of `vilt`."""
    encoder = PrefixViLT(**SIZES).eval()
    encoder.load_state_dict(vilt.state_dict())
    return encoder


@pytest.fixture
def batch() -> dict:
    """Six texts about three images; patches already scaled."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(TEXT_LENGTHS)
    text_mask = torch.arange(9) < lengths[:, None]
    word_ids = (torch.arange(9) // 2).repeat(6, 1).masked_fill(~text_mask, -1)
    word_ids[:, 0] = -1
    word_ids[torch.arange(6), lengths - 1] = -1
    grids = torch.tensor(GRIDS)
    return dict(
        patches=torch.rand(int(grids.prod(dim=1).sum()), 3 * 64, generator=generator) * 2 - 1,
        grids=grids,
        image_index=torch.tensor(IMAGE_INDEX),
        image_id=torch.tensor([70, 80, 90]),
        input_ids=torch.randint(5, 40, (6, 9), generator=generator) * text_mask,
        text_mask=text_mask,
        word_ids=word_ids,
        sample_seed=torch.arange(6) * 1000,
    )
