import numpy as np
import pytest
import torch

from kovilt.datasets import collate_pairs


def sample(image_id: int, length: int, grid=(2, 3), **more) -> dict:
    patches = np.full((grid[0] * grid[1], 12 if grid[0] else 0), image_id % 256, dtype=np.uint8)
    return {
        'input_ids': np.arange(length) + 10,
        'word_ids': np.array([-1, *range(length - 2), -1]),
        'pad_id': 7,
        'image_id': image_id,
        'image': {'patches': patches, 'grid': grid},
        'sample_seed': 2**62 + length,
        **more,
    }


def test_images_are_packed_once_and_texts_padded():
    samples = [sample(5, 4, label=1), sample(9, 3, (1, 1), label=-1), sample(5, 5, label=0)]
    (batch,) = collate_pairs(samples)
    assert set(batch) == {
        'patches', 'grids', 'image_id', 'image_index', 'input_ids', 'text_mask', 'word_ids', 'sample_seed', 'label',
    }  # fmt: skip
    assert batch['patches'].dtype == torch.uint8 and batch['patches'][:, 0].tolist() == [5] * 6 + [9]
    assert batch['grids'].tolist() == [[2, 3], [1, 1]] and batch['image_id'].tolist() == [5, 9]
    assert batch['image_index'].tolist() == [0, 1, 0]
    assert batch['input_ids'].tolist() == [[10, 11, 12, 13, 7], [10, 11, 12, 7, 7], [10, 11, 12, 13, 14]]
    assert batch['text_mask'].sum(1).tolist() == [4, 3, 5] and batch['text_mask'].dtype == torch.bool
    assert batch['word_ids'].tolist() == [[-1, 0, 1, -1, -1], [-1, 0, -1, -1, -1], [-1, 0, 1, 2, -1]]
    assert batch['label'].tolist() == [1, -1, 0]
    assert batch['sample_seed'].tolist() == [2**62 + 4, 2**62 + 3, 2**62 + 5]
    integers = set(batch) - {'patches', 'text_mask'}
    assert all(batch[key].dtype == torch.int64 for key in integers)


@pytest.mark.parametrize('parts', [1, 2, 3, 4, 9])
def test_micro_batches_hold_all_pairs_in_order_with_their_images(parts):
    samples = [sample(number // 2, 3 + number % 3, label=number) for number in range(8)]
    batches = collate_pairs(samples, micro_batches=parts)
    assert len(batches) == min(parts, 8)
    sizes = [len(batch['label']) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert torch.cat([batch['label'] for batch in batches]).tolist() == list(range(8))
    for batch in batches:
        assert batch['image_id'][batch['image_index']].tolist() == [label // 2 for label in batch['label'].tolist()]
        assert len(batch['patches']) == batch['grids'].prod(1).sum()


def test_without_samples_there_is_an_empty_batch():
    (batch,) = collate_pairs([], micro_batches=3)
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        'patches': (0, 0), 'grids': (0, 2), 'image_id': (0,), 'image_index': (0,), 'input_ids': (0, 0),
        'text_mask': (0, 0), 'word_ids': (0, 0), 'sample_seed': (0,),
    }  # fmt: skip


def test_images_without_patches_can_be_batched_with_others():
    (batch,) = collate_pairs([sample(1, 3, (0, 0)), sample(2, 3), sample(1, 4, (0, 0))])
    assert batch['patches'].shape == (6, 12)
    assert batch['grids'].tolist() == [[0, 0], [2, 3]] and batch['image_index'].tolist() == [0, 1, 0]
    (alone,) = collate_pairs([sample(1, 3, (0, 0))])
    assert alone['patches'].shape == (0, 0)


def test_soft_labels_are_stacked():
    soft = [np.array(scores, dtype=np.float32) for scores in ([0.3, 1, 0], [0, 0, 0])]
    (batch,) = collate_pairs([sample(number, 3, label=label) for number, label in enumerate(soft)])
    assert batch['label'].dtype == torch.float32
    torch.testing.assert_close(batch['label'], torch.tensor([[0.3, 1, 0], [0, 0, 0]]))


def test_records_are_in_the_batch():
    (batch,) = collate_pairs([sample(1, 3, record={'row': 4}), sample(2, 3, record={'row': 5})])
    assert batch['records'] == [{'row': 4}, {'row': 5}]
