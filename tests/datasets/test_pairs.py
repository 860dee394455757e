import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kovilt.datasets import (
    AIHubCOCOKoreanReader,
    AIHubLivingReader,
    CaptionReader,
    GlobalBatchSampler,
    ImageGroupSampler,
    LoadImage,
    PairDataset,
    QuestionDataset,
    collate_pairs,
    train_tokenizer,
)
from kovilt.datasets.samplers import join_index
from kovilt.errors import KoviltError
from tests.support.pair_data import IMAGE_PIPELINE, SUBSET, failure


def open_(data, **options) -> QuestionDataset:
    return data.open(AIHubLivingReader, **options)


def loader(dataset, batch_size=5, shuffle=True, epoch=0, **options) -> DataLoader:
    sampler = ImageGroupSampler(dataset, shuffle=shuffle, seed=0)
    sampler.set_epoch(epoch)
    return DataLoader(
        dataset, batch_sampler=GlobalBatchSampler(sampler, batch_size), collate_fn=collate_pairs, **options
    )


def same(left, right) -> bool:
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_a_sample(data):
    data.living()
    dataset = open_(data, keep_record=True)
    sample = dataset[join_index(2, 4)]
    record = dataset.record(4)
    assert sample['record'] == record and record['row'] == 4 and record['split'] == 'train'
    assert set(record) == {'row', 'image', 'split', 'question', 'question_id', 'answer', 'answer_type'}
    assert sample['input_ids'].tolist() == dataset.tokenizer(record['question'])['input_ids']
    assert sample['image']['grid'] == (2, 3) and sample['image']['patches'].shape == (6, 3 * 16 * 16)
    assert 'record' not in open_(data)[0]
    assert dataset.metainfo == {'tokenizer_size': len(dataset.tokenizer)}


def test_an_image_is_opened_once_and_shared(data, monkeypatch):
    data.living()
    dataset = open_(data)
    opened = []
    read = LoadImage.transform
    monkeypatch.setattr(
        LoadImage, 'transform', lambda self, results: opened.append(results['img_path']) or read(self, results)
    )
    samples = dataset.__getitems__(list(range(12)))
    assert len(opened) == len(set(opened)) == 4
    assert len({id(sample['image']) for sample in samples}) == 4


def test_cached_images_are_read_once_and_are_the_same(data, monkeypatch):
    data.living()
    expected = list(loader(open_(data)))
    dataset = open_(data, cache_images=True)
    assert same(expected, loader(dataset))
    monkeypatch.setattr(LoadImage, 'transform', lambda self, results: pytest.fail('read again'))
    assert same(expected, loader(dataset))


def test_augmented_images_cannot_be_cached(data):
    data.living()
    with pytest.raises(KoviltError, match='RandAugment changes the images in every epoch'):
        open_(data, image_pipeline=AUGMENTED, cache_images=True)


def test_randomness_depends_on_seed_epoch_and_row(data):
    data.living()
    first, again, other = open_(data), open_(data), open_(data, seed=1)
    seeds = [first[join_index(epoch, row)]['sample_seed'] for epoch in (0, 1) for row in range(12)]
    assert seeds == [again[join_index(epoch, row)]['sample_seed'] for epoch in (0, 1) for row in range(12)]
    assert len({*seeds, *(other[row]['sample_seed'] for row in range(12))}) == 36


AUGMENTED = [IMAGE_PIPELINE[0], {'type': 'RandAugment', 'num_ops': 2, 'magnitude': 9}, *IMAGE_PIPELINE[1:]]


def test_augmentation_differs_by_epoch_and_repeats_after_a_restart(data):
    data.living()
    dataset = open_(data, image_pipeline=AUGMENTED)
    images = [dataset[join_index(epoch, 0)]['image']['patches'].tobytes() for epoch in range(8)]
    assert len(set(images)) > 4
    restarted = open_(data, image_pipeline=AUGMENTED)
    assert restarted[join_index(5, 0)]['image']['patches'].tobytes() == images[5]


@pytest.mark.parametrize('options', [{'num_workers': 1}, {'num_workers': 2, 'prefetch_factor': 3}])
def test_workers_change_nothing(data, options):
    data.living()
    data.zip('Training/개인생활환경 이미지 수집.zip', 'Training/images')
    dataset = open_(data, image_pipeline=AUGMENTED)
    assert same(loader(dataset, epoch=3), loader(dataset, epoch=3, **options))


def test_it_can_be_sent_to_a_spawned_worker(data):
    data.living()
    data.zip('Training/개인생활환경 이미지 수집.zip', 'Training/images')
    dataset = open_(data)
    copy = pickle.loads(pickle.dumps(dataset))
    assert same(loader(dataset), loader(copy))
    assert copy.summary() == dataset.summary()


def test_limit_samples_rows_by_seed(data):
    data.living(images=10)
    ids = {}
    for seed in (0, 0, 1):
        dataset = open_(data, limit=12, seed=seed)
        assert len(dataset) == 12 and (np.diff(dataset.row_images) >= 0).all()
        found = [dataset.record(row)['question_id'] for row in range(12)]
        assert ids.setdefault(seed, found) == found
    assert ids[0] != ids[1]
    for limit, message in ((0, 'limit is 0; it must be at least 1'), (31, "limit=31: split 'train' of .* has 30 rows")):
        with pytest.raises(KoviltError, match=message):
            open_(data, limit=limit)


def break_images(data, numbers) -> list[str]:
    paths = [f'{data.root}/Training/images/개인생활환경 이미지 수집/음식/{number:032x}.jpg' for number in numbers]
    for path in paths:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])
    return paths


@pytest.mark.parametrize('workers', [0, 2])
def test_broken_images_are_left_out_counted_and_listed_once(data, workers):
    data.living(images=10)
    broken = break_images(data, [2, 7])
    dataset = open_(data, max_broken_fraction=0.2)
    for epoch in (0, 1):
        batches = [batch for parts in loader(dataset, epoch=epoch, num_workers=workers) for batch in parts]
        assert sum(len(batch['image_index']) for batch in batches) == 24
        assert all((batch['grids'] > 0).all() for batch in batches)
    assert dataset.broken_images() == broken
    assert dataset.summary()['broken_images'] == broken


def test_a_broken_image_is_logged_once(data, monkeypatch):
    data.living(images=10)
    break_images(data, [2])
    dataset = open_(data, max_broken_fraction=0.2)
    warnings = []
    monkeypatch.setattr(dataset, '_log', lambda message, level: warnings.append(message))
    for _ in range(3):
        dataset.__getitems__(list(range(30)))
    (warning,) = warnings
    assert warning.startswith('broken image: ') and f'{2:032x}.jpg' in warning


@pytest.mark.parametrize('workers', [0, 2])
def test_too_many_broken_images_stop_training(data, workers):
    data.living(images=10)
    break_images(data, [1, 4, 6])
    dataset = open_(data, max_broken_fraction=0.2)
    message = failure(loader(dataset, num_workers=workers))
    assert message.startswith('3 of 10 images of ') and 'max_broken_fraction=0.2' in message and '\n' not in message
    assert '.jpg: not a readable image' in message


def test_a_batch_may_lose_all_its_rows(data):
    data.living(images=3)
    break_images(data, [1])
    dataset = open_(data, max_broken_fraction=0.5)
    sizes = [len(batch['image_index']) for (batch,) in loader(dataset, batch_size=3)]
    assert sorted(sizes) == [0, 3, 3]
    with pytest.raises(KoviltError, match='cannot be read'):
        dataset[int(np.flatnonzero(dataset.row_images == 1)[0])]


def test_evaluation_keeps_rows_of_broken_images(data):
    data.living(images=3)
    break_images(data, [0, 1, 2])
    dataset = open_(data, test_mode=True, keep_record=True)
    batches = [batch for parts in loader(dataset, shuffle=False, batch_size=4) for batch in parts]
    records = [record for batch in batches for record in batch['records']]
    assert [record['row'] for record in records] == list(range(9))
    assert all(record['broken'] for record in records)
    assert all(batch['patches'].numel() == 0 and (batch['grids'] == 0).all() for batch in batches)


def test_an_image_that_vanishes_is_broken(data):
    data.living()
    dataset = open_(data, max_broken_fraction=0.5)
    next(data.root.rglob('*.jpg')).unlink()
    assert len(dataset.__getitems__(list(range(12)))) == 9


def test_a_tokenizer_of_other_texts_is_refused(data, tmp_path):
    data.living()
    train_tokenizer(['날씨가 좋아서 밥을 먹었다'] * 3, tmp_path / 'other', vocab_size=100)
    steps = [{'type': 'TokenizeKorean', 'tokenizer': str(tmp_path / 'other'), 'max_text_len': 12}]
    with pytest.raises(KoviltError, match=r'tokenizer .*other: \d+% of the tokens of the texts'):
        open_(data, text_pipeline=steps)


def test_the_digest_of_images_depends_on_their_content_alone(data):
    """Not on times, nor on whether they lie in folders or in a zip."""
    data.living(images=4)
    digest = open_(data).digest_images()
    for file in data.root.rglob('*.jpg'):
        os.utime(file, (1e9, 1e9))
    assert open_(data).digest_images() == digest
    first, second = sorted(data.root.rglob('*.jpg'))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    for exchanged in ((two, one), (one[:-1], two), (b'', two), (one[:99] + b'?' + one[100:], two)):
        first.write_bytes(exchanged[0])
        second.write_bytes(exchanged[1])
        assert open_(data).digest_images() != digest
    first.write_bytes(one)
    second.write_bytes(two)
    data.zip('Training/images/images.zip', f'Training/images/{SUBSET}')
    assert open_(data).digest_images() == digest


def test_the_digest_depends_on_the_content(data):
    labels = data.living()
    path = 'Training/labels/[라벨]개인생활환경 이미지 수집/개인생활환경 이미지 수집.json'
    summary = open_(data).summary()
    assert summary == open_(data).summary() and summary['images'] == 4
    labels['question'][0]['question'] = '소파가 있어요?'
    data.write(path, labels)
    assert open_(data).summary()['digest'] != summary['digest']


def test_misspelt_arguments_are_named(data):
    data.living()
    with pytest.raises(TypeError, match='keep_records'):
        open_(data, keep_records=True)


class TabReader(CaptionReader):
    """A reader as a user writes it."""

    def records(self, report):
        for number, line in enumerate(self.data_root.joinpath('rows.tsv').read_text('utf-8').splitlines()):
            image, text = line.split('\t')
            yield {'image': image, 'text': text, 'number': number}


def test_a_custom_reader_takes_ten_lines(data):
    data.image('a.png')
    data.image('b/c.png')
    data.write('rows.tsv', 'b/c.png\t방 안에\na.png\t빨간색  의자가\nb/c.png\t있다.\na.png\t\n')
    dataset = data.open(TabReader)
    assert list(dataset.row_set.texts()) == ['방 안에', '있다.', '빨간색 의자가']
    assert [len(batch['image_id']) for (batch,) in loader(dataset, batch_size=3)] == [2]
    assert dataset.left_out == {'empty text': 1}


def test_a_row_is_not_stored_as_a_python_object(data):
    labels = data.living(images=1)
    many = [{**labels['question'][0], 'question_id': number} for number in range(20_000)]
    data.write(
        'Training/labels/[라벨]개인생활환경 이미지 수집/개인생활환경 이미지 수집.json', {**labels, 'question': many}
    )
    dataset = open_(data)
    question = len(labels['question'][0]['question'].encode())
    numbers = 8 + 8 + 4 + 4 + 4 + 8 + 5  # ends of two texts, two codes and the image, the row, the digits of its id
    assert len(pickle.dumps(dataset)) < 20_000 * (question + numbers) + 100_000


def test_broken_images_are_shared_between_processes():
    from kovilt.datasets.broken_images import BrokenImages

    faults = BrokenImages(5)
    process = multiprocessing.get_context('fork').Process(target=faults.mark, args=(3,))
    process.start()
    process.join()
    assert 3 in faults and 2 not in faults and len(faults) == 1 and faults.numbers() == [3]


def test_a_dataset_takes_the_config_of_a_reader_a_reader_or_its_rows(data):
    data.living()
    config = {'type': 'AIHubLivingReader', 'data_root': str(data.root), 'split': 'train'}
    reader = AIHubLivingReader(data_root=str(data.root), split='train')
    opened = [QuestionDataset(reader=source, **data.pipelines) for source in (config, reader, reader.read_rows())]
    assert opened[0].summary() == opened[1].summary() == opened[2].summary()
    assert same(loader(opened[0]), loader(opened[2]))


def test_questions_may_serve_as_captions_and_captions_not_as_questions(data):
    data.captions()
    data.living()
    texts = PairDataset(reader=AIHubLivingReader(data_root=str(data.root), split='train'), **data.pipelines)
    assert len(texts) == 12 and 'label' not in texts[0]
    captions = AIHubCOCOKoreanReader(data_root=str(data.root), split='train')
    with pytest.raises(KoviltError, match="AIHubCOCOKoreanReader gives captions, .* type='PairDataset' serves them"):
        QuestionDataset(reader=captions, **data.pipelines)


def test_files_are_not_loaded_as_prepared_images(data):
    data.living()
    with pytest.raises(KoviltError, match='LoadPrepared reads prepared images, and these are files; .* kovilt prepare'):
        open_(data, image_pipeline=[{'type': 'LoadPrepared'}])


def test_rows_alone_need_no_images(data):
    data.living(write_images=False)
    rows = AIHubLivingReader(data_root=str(data.root), split='train').read_rows()
    assert len(rows) == len(list(rows.texts())) == 12 and len(rows.images.absent()) == 4
    with pytest.raises(KoviltError, match='4 of 4 images are absent'):
        open_(data)
