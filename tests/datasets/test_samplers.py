from types import SimpleNamespace

import numpy as np
import pytest

from kovilt.datasets import GlobalBatchSampler, ImageGroupSampler, samplers
from kovilt.datasets.samplers import join_index, split_index


def dataset(sizes=(3, 1, 5, 2, 4), order=None):
    """Images with so many rows each."""
    images = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return SimpleNamespace(row_images=images if order is None else images[order])


def rows(sampler) -> list[int]:
    return [split_index(index)[1] for index in sampler]


def runs(images: np.ndarray) -> list[tuple[int, int]]:
    """(image, length) of each group of equal neighbors."""
    starts = np.flatnonzero(np.diff(images, prepend=-1))
    return list(zip(images[starts].tolist(), np.diff(starts, append=len(images)).tolist(), strict=True))


def test_an_index_carries_row_and_epoch():
    assert split_index(join_index(7, 1_646_079)) == (7, 1_646_079)


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('texts_per_image', [None, 1, 2, 3, 100])
def test_every_row_comes_once_in_every_epoch(shuffle, texts_per_image):
    sampler = ImageGroupSampler(dataset(), shuffle=shuffle, seed=1, texts_per_image=texts_per_image)
    for epoch in (0, 5):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert sorted(rows(sampler)) == list(range(15)) and len(sampler) == 15
        assert {split_index(index)[0] for index in indices} == {epoch}


@pytest.mark.parametrize('shuffle', [True, False])
def test_rows_of_an_image_stay_together(shuffle):
    data = dataset(order=np.random.default_rng(0).permutation(15))
    found = runs(data.row_images[rows(ImageGroupSampler(data, shuffle=shuffle, seed=3))])
    assert sorted(found) == [(0, 3), (1, 1), (2, 5), (3, 2), (4, 4)]


def test_groups_have_at_most_texts_per_image_rows():
    data = dataset(sizes=(7,) * 40)
    order = rows(ImageGroupSampler(data, shuffle=True, seed=0, texts_per_image=3))
    lengths = [length for _, length in runs(data.row_images[order])]
    assert np.mean(lengths) < 3.2  # 3, 3, 1 an image; now and then two runs of one image meet
    unshuffled = rows(ImageGroupSampler(data, shuffle=False, seed=0, texts_per_image=1))
    assert data.row_images[unshuffled].tolist() == list(range(40)) * 7


def test_the_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        sampler = ImageGroupSampler(dataset(sizes=(5,) * 20), shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return rows(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert order(0, 0)[:5] != sorted(order(0, 0)[:5]) or order(0, 1)[:5] != sorted(order(0, 1)[:5])


def test_an_empty_dataset_has_an_empty_order():
    data = SimpleNamespace(row_images=np.zeros(0, dtype=np.int32))
    for shuffle in (True, False):
        assert list(GlobalBatchSampler(ImageGroupSampler(data, shuffle=shuffle, seed=0), 4)) == []


def batches(monkeypatch, world_size: int, batch_size: int, shuffle: bool, **options) -> list[list[list[int]]]:
    """For each process its batches of rows; checks that the announced number of batches is true."""
    found = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = GlobalBatchSampler(ImageGroupSampler(dataset(), shuffle=shuffle, seed=0), batch_size, **options)
        found.append([[split_index(index)[1] for index in batch] for batch in sampler])
        assert len(sampler) == len(found[-1])
    return found


def test_two_processes_make_the_batches_of_one(monkeypatch):
    (whole,) = batches(monkeypatch, 1, 4, True)
    first, second = batches(monkeypatch, 2, 2, True)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


@pytest.mark.parametrize('world_size, batch_size', [(1, 4), (2, 2), (2, 4), (3, 2), (4, 8), (2, 16)])
def test_training_gives_all_processes_equal_batches(monkeypatch, world_size, batch_size):
    found = batches(monkeypatch, world_size, batch_size, True)
    assert len({len(mine) for mine in found}) == 1
    assert all(len(batch) == batch_size for mine in found for batch in mine)
    assert {row for mine in found for batch in mine for row in batch} == set(range(15))


@pytest.mark.parametrize('world_size, batch_size', [(1, 4), (2, 2), (2, 4), (3, 2), (4, 8), (20, 1), (4, 3)])
def test_evaluation_never_repeats_a_row(monkeypatch, world_size, batch_size):
    found = batches(monkeypatch, world_size, batch_size, False)
    assert sorted(row for mine in found for batch in mine for row in batch) == list(range(15))


def test_an_incomplete_batch_can_be_dropped(monkeypatch):
    found = batches(monkeypatch, 2, 2, True, drop_last=True)
    assert [len(mine) for mine in found] == [3, 3]


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match='texts_per_image is 0; it must be at least 1'):
        ImageGroupSampler(dataset(), shuffle=True, seed=0, texts_per_image=0)
    with pytest.raises(ValueError, match='batch_size is 0; it must be at least 1'):
        GlobalBatchSampler(ImageGroupSampler(dataset(), shuffle=True, seed=0), 0)
