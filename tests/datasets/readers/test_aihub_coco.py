import pytest

from kovilt.datasets import AIHubCOCOKoreanReader, PairDataset
from kovilt.errors import KoviltError


def open_(data, split='train', **files) -> PairDataset:
    return data.open(AIHubCOCOKoreanReader, split, files=files)


def texts(dataset) -> list[str]:
    return [dataset.record(row)['text'] for row in range(len(dataset))]


def test_one_row_per_caption_by_split(data):
    rows = data.captions()
    for split, numbers in (('train', [0, 1, 2]), ('val', [3]), ('trainval', [0, 1, 2, 3])):
        dataset = open_(data, split)
        assert texts(dataset) == [caption for number in numbers for caption in rows[number]['caption_ko']]
        assert dataset.row_images.tolist() == [place for place in range(len(numbers)) for _ in range(2)]
    assert dataset.record(7) == {
        'row': 7,
        'image': str(data.root / 'val2014/COCO_val2014_000000000004.jpg'),
        'split': 'trainval',
        'text': '방 안에 빨간색 의자가 있다.',
    }
    with pytest.raises(KoviltError, match="split='test': AI-Hub 261 has 'train', 'val', 'trainval'"):
        open_(data, 'test')


def karpathy(data, splits: list[str]) -> None:
    images = [
        {'filepath': 'x', 'filename': 'x.jpg', 'imgid': number, 'split': split, 'cocoid': number, 'sentences': []}
        for number, split in enumerate(splits, 1)
    ]
    data.write('karpathy/dataset_coco.json', {'images': images, 'dataset': 'coco'})


def test_karpathys_splits_replace_those_of_the_folders(data):
    data.captions(train=2, val=4)
    karpathy(data, ['train', 'train', 'restval', 'val', 'test'])

    def numbers(split: str) -> list[int]:
        dataset = open_(data, split, karpathy='dataset_coco.json')
        assert dataset.left_out['id not in the Karpathy split'] == 2  # the captions of the sixth image
        return sorted({int(dataset.record(row)['image'][-7:-4]) for row in range(len(dataset))})

    assert numbers('train') == [1, 2, 3]
    assert (numbers('val'), numbers('test'), numbers('trainval')) == ([4], [5], [1, 2, 3, 4])
    with pytest.raises(
        KoviltError, match="split='dev': AI-Hub 261 with karpathy has 'train', 'val', 'test', 'trainval'"
    ):
        open_(data, 'dev', karpathy='dataset_coco.json')


def test_a_wrong_file_of_karpathy_is_refused(data):
    data.captions()
    with pytest.raises(KoviltError, match='karpathy.json: no such file'):
        open_(data, karpathy='karpathy.json')
    data.write('karpathy.json', {'images': [{'split': 'train'}]})
    with pytest.raises(KoviltError, match=r"karpathy.json, line 3: no 'cocoid' in this row; every row needs it"):
        open_(data, karpathy='karpathy.json')


def test_samples_have_no_label(data):
    data.captions()
    assert 'label' not in open_(data)[0]


def test_captions_may_be_absent_empty_or_a_plain_string(data):
    rows = data.captions(train=5)
    rows[0]['caption_ko'] = '고양이가 있다.'
    rows[1]['caption_ko'] = ['고양이가 있다.', '', ' ']
    rows[2]['caption_ko'] = None
    del rows[3]['caption_ko']
    data.write('MSCOCO_train_val_Korean.json', rows)
    dataset = open_(data)
    assert texts(dataset)[:2] == ['고양이가 있다.'] * 2
    assert len(dataset) == 4 and dataset.num_images == 3
    assert dataset.left_out == {'empty text': 2, 'no Korean caption': 2}


def test_images_of_coco_2017_replace_missing_ones(data):
    data.captions(train=2, val=1)
    for number, folder in ((1, 'train2017'), (2, 'val2017'), (3, 'val2017')):
        old = 'train2014' if number < 3 else 'val2014'
        (data.root / old / f'COCO_{old}_{number:012d}.jpg').unlink()
        data.image(f'{folder}/{number:012d}.jpg')
    dataset = open_(data, 'trainval')
    images = [dataset.record(row)['image'] for row in range(0, 6, 2)]
    paths = ('train2017/000000000001.jpg', 'val2017/000000000002.jpg', 'val2017/000000000003.jpg')
    assert images == [str(data.root / path) for path in paths]


def test_images_may_lie_in_zips(data):
    rows = data.captions()
    data.zip('train2014.zip', 'train2014')
    data.zip('deeper.zip', 'val2014')
    dataset = open_(data, 'trainval')
    assert len(dataset) == 2 * len(rows)
    assert {sample['image']['grid'] for sample in dataset.__getitems__(range(8))} == {(2, 3)}


def test_the_caption_file_may_lie_elsewhere(data, tmp_path):
    data.captions()
    (data.root / 'annotations').mkdir()
    path = data.root / 'annotations/MSCOCO_train_val_Korean.json'
    (data.root / path.name).rename(path)
    assert len(open_(data)) == 6
    path.rename(tmp_path / 'captions.json')
    assert len(open_(data, ann_file=str(tmp_path / 'captions.json'))) == 6
    with pytest.raises(
        KoviltError, match=r'MSCOCO_train_val_Korean.json: no such file. Get .*dataSetSn=261.*val2014.zip'
    ):
        open_(data)


def test_parts_of_the_caption_file_are_refused(data):
    data.captions()
    (data.root / 'MSCOCO_train_val_Korean.json').rename(data.root / 'MSCOCO_train_val_Korean.json.part0')
    with pytest.raises(KoviltError, match='a part of a download'):
        open_(data)


def test_an_error_for_missing_images_says_what_to_get(data):
    data.captions()
    for file in data.root.glob('*2014/*.jpg'):
        file.unlink()
    with pytest.raises(KoviltError, match=r'3 of 3 images are absent, e.g. train2014/COCO.*train2014.zip'):
        open_(data)


def test_another_file_is_refused_with_its_line(data):
    data.captions()
    data.write('MSCOCO_train_val_Korean.json', [{'image': 'a.jpg', 'caption': '고양이'}])
    with pytest.raises(KoviltError, match=r"Korean.json, line 2: no 'file_path' in this row"):
        open_(data)


def test_an_image_has_one_identity_in_both_splits(data):
    data.captions()
    first, second = open_(data, 'val'), open_(data, 'trainval')
    assert first[0]['image_id'] == second[6]['image_id']
