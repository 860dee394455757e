"""Batches of the benchmarks keep the contract and have the shapes that they claim."""

import pytest
import torch

from benchmarks import fixtures


def test_images_have_199_patches_on_average():
    shares = fixtures.grid_shares()
    assert sum(shares.values()) == 100 and (12, 16) in shares
    assert round(sum(rows * columns * share for (rows, columns), share in shares.items()) / 100) == 199


def test_images_share_the_texts_evenly():
    rng = torch.Generator().manual_seed(0)
    grids, lengths = fixtures.sample_grids(3, rng), fixtures.sample_lengths(12, rng)
    batch = fixtures.make_batch(grids, lengths, rng)
    assert batch['image_index'].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch['text_mask'].sum(dim=1).tolist() == lengths
    assert len(batch['patches']) == sum(rows * columns for rows, columns in grids)
    assert (batch['word_ids'] >= 0).sum(dim=1).tolist() == [length - 2 for length in lengths]
    assert fixtures.make_batch(grids, lengths[:8], rng)['image_index'].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match='4 texts cannot be shared among 3 images'):
        fixtures.make_batch(grids, lengths[:4], rng)


def test_transformers_gets_the_pixels_that_the_patches_were_cut_from():
    rng = torch.Generator().manual_seed(0)
    batch = fixtures.make_batch([(2, 3), (1, 2)], [5, 6, 7, 8], rng)
    inputs = fixtures.transformers_inputs(batch)
    assert inputs['pixel_values'].shape == (4, 3, 64, 96) and inputs['pixel_mask'].sum().item() == 2 * 32 * 32 * 8
    patch = inputs['pixel_values'][1, :, 32:64, 64:96]  # row 1, column 2 of the first image
    assert torch.equal(patch.flatten(), batch['patches'][5].float() / 127.5 - 1)
