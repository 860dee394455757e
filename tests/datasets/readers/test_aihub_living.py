import shutil
import unicodedata
import zipfile

import pytest

from kovilt.datasets import AIHubLivingReader, QuestionDataset
from kovilt.errors import KoviltError
from tests.support.pair_data import QUESTIONS, SUBSET


def open_(data, split='train', **options) -> QuestionDataset:
    return data.open(AIHubLivingReader, split, **options)


def content(dataset) -> list[tuple]:
    """The content of the rows, in the order of their ids."""
    records = [dataset.record(row) for row in range(len(dataset))]
    keys = ('question_id', 'question', 'answer', 'answer_type')
    return sorted(
        (tuple(record[key] for key in keys) + (record['image'].rsplit('/', 1)[1],) for record in records),
        key=lambda row: int(row[0]),
    )


EXPECTED = [(str(3 * n + k + 1), *QUESTIONS[k], f'{n:032x}.jpg') for n in range(4) for k in range(3)]


def test_extracted_folders(data):
    data.living()
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert dataset.num_images == 4 and not dataset.left_out
    assert dataset.row_images.tolist() == sorted(dataset.row_images.tolist())


def test_zips_as_downloaded(data):
    data.living()
    data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}')
    data.zip(f'Training/{SUBSET}.zip', 'Training/images')
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(12)))


def test_the_current_layout_of_folders(data):
    data.living(split='126.생활 및 거주환경 VQA/01.데이터/1.Training/원천데이터')
    folder = data.root / '126.생활 및 거주환경 VQA/01.데이터/1.Training'
    (folder / '원천데이터/labels').rename(folder / '라벨링데이터')
    assert content(open_(data)) == EXPECTED


def test_images_in_a_tar(data):
    data.living()
    shutil.make_archive(str(data.root / 'Training' / SUBSET), 'tar', data.root / 'Training/images')
    shutil.rmtree(data.root / 'Training/images')
    dataset = open_(data)
    assert f'Training/{SUBSET}.tar/{SUBSET}/음식/' in dataset.record(0)['image']
    assert {sample['image']['grid'] for sample in dataset.__getitems__(range(len(dataset)))} == {(2, 3)}


def test_the_current_layout_of_zips(data):
    """NNN.이름/01.데이터/1.Training/{원천데이터,라벨링데이터}/*.zip"""
    data.living()
    today = '126.생활 및 거주환경 VQA/01.데이터/1.Training'
    data.zip(f'{today}/라벨링데이터/{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}')
    data.zip(f'{today}/원천데이터/{SUBSET}.zip', f'Training/images/{SUBSET}')
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert all(sample['image']['grid'] == (2, 3) for sample in dataset.__getitems__(range(12)))


def test_zips_with_names_in_cp949(data):
    data.living()
    data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}', cp949=True)
    data.zip('Training/images.zip', 'Training/images', cp949=True)
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert f'images.zip/{SUBSET}/음식/' in dataset.record(0)['image']


def test_labels_both_zipped_and_extracted_are_read_once(data):
    data.living()
    zipped = data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}')
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(data.root / f'Training/labels/[라벨]{SUBSET}')
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert dataset.left_out == {'question_id seen before': 12}


def test_an_incomplete_download_is_refused(data):
    data.living()
    data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}').rename(
        data.root / f'Training/[라벨]{SUBSET}.zip.part0'
    )
    with pytest.raises(KoviltError, match=r'zip\.part0: a part of a download; join the parts first'):
        open_(data)


def test_labels_without_prefix_in_a_label_folder(data):
    data.living()
    labels = data.root / 'Training/labels'
    (labels / f'[라벨]{SUBSET}').rename(labels / SUBSET)
    assert content(open_(data)) == EXPECTED


@pytest.mark.parametrize('id_type', [int, str])
def test_ids_may_be_numbers_or_strings(data, id_type):
    data.living(id_type=id_type)
    assert content(open_(data)) == EXPECTED


def test_decomposed_names_and_texts(data):
    """Some systems write decomposed Hangul in file names, in labels, or in both."""
    decomposed = unicodedata.normalize('NFD', SUBSET)
    labels = data.living()
    for folder in (f'Training/images/{SUBSET}', f'Training/labels/[라벨]{SUBSET}'):
        (data.root / folder).rename(data.root / unicodedata.normalize('NFD', folder))
    for row in labels['question'] + labels['images']:
        row.update({key: unicodedata.normalize('NFD', value) for key, value in row.items() if isinstance(value, str)})
    data.write(unicodedata.normalize('NFD', f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json'), labels)
    assert (data.root / 'Training/images' / decomposed).is_dir()
    assert content(open_(data)) == EXPECTED


def test_a_subset_in_several_zips_shares_its_images(data):
    """실내 가전 및 가구배치 이미지 수집_1.zip and _2.zip unpack into one folder."""
    name = '실내 가전 및 가구배치 이미지 수집'
    labels = data.living(subset=name)
    halves = labels['images'][:2], labels['images'][2:]
    (data.root / f'Training/labels/[라벨]{name}/{name}.json').unlink()
    for number, images in enumerate(halves, 1):
        ids = {image['image_id'] for image in images}
        questions = [row for row in labels['question'] if row['image_id'] in ids]
        data.write(f'Training/labels/[라벨]{name}_{number}/x.json', {'images': images, 'question': questions})
    assert content(open_(data)) == EXPECTED


def test_the_same_name_in_two_subsets_is_two_images(data):
    data.living()
    data.living(subset='노인 생활거주환경 이미지 수집')
    dataset = open_(data)
    assert dataset.num_images == 8 and len(dataset) == 24
    for row in range(24):
        image = dataset.record(row)['image']
        assert (SUBSET in image) == (dataset.row_images[row] < 4)
    assert len({sample['image_id'] for sample in dataset.__getitems__(range(24))}) == 8


def test_images_elsewhere_are_found_by_their_name(data):
    data.living()
    (data.root / f'Training/images/{SUBSET}/음식').rename(data.root / 'Training/사진')
    assert content(open_(data)) == EXPECTED


def test_questions_may_come_before_the_images(data):
    labels = data.living()
    data.write(
        f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', {'question': labels['question'], 'images': labels['images']}
    )
    assert content(open_(data)) == EXPECTED


def test_the_splits_are_disjoint(data):
    data.living()
    data.living(split='Validation', images=2)
    assert len(open_(data)) == 12
    assert len(open_(data, 'val', test_mode=True)) == 6
    with pytest.raises(KoviltError, match="split='test': AI-Hub 101 has 'train' and 'val'"):
        open_(data, 'test')


def test_a_root_named_after_the_split_is_enough(data):
    data.living()
    data.root /= 'Training'
    assert content(open_(data)) == EXPECTED


def test_missing_data_says_what_to_get(data):
    with pytest.raises(
        KoviltError, match=r'no such folder. Get .*dataSetSn=101.*Training and Validation.*kovilt rooms'
    ) as error:
        open_(data)
    assert '\n' not in str(error.value)
    data.living()
    with pytest.raises(
        KoviltError, match=r'no label file .* of Validation; 1 label files belong to another split.*dataSetSn=101'
    ):
        open_(data, 'val')


def test_rows_that_cannot_be_used_are_counted(data):
    labels = data.living()
    image_id = labels['images'][0]['image_id']
    bad = [
        {'question_id': 101, 'image_id': 1, 'question': '이미지 목록에 없는 질문', 'answer': '예'},
        {'question_id': 102, 'image_id': image_id, 'question': ' \u200b', 'answer': '예'},
        {'question_id': 103, 'image_id': image_id, 'question': '고양이?', 'answer': ''},
        {'question_id': 104, 'image_id': image_id, 'question': '고양이?', 'answer': None},
        {'question_id': 105, 'image_id': image_id, 'question': '고양이?'},
        {'question_id': 1, 'image_id': image_id, 'question': '고양이?', 'answer': '예'},
    ]
    labels['question'] += bad
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    dataset = open_(data)
    assert content(dataset) == EXPECTED
    assert dataset.left_out == {
        'image not listed in the labels': 1,
        'empty question': 1,
        'no answer': 3,
        'question_id seen before': 1,
    }


def test_numbers_as_answers_are_text(data):
    labels = data.living()
    for row in labels['question']:
        row['answer'] = 2
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    assert {row[2] for row in content(open_(data))} == {'2'}


def test_absent_images_are_counted_in_training_and_stay_in_evaluation(data):
    data.living()
    (data.root / f'Training/images/{SUBSET}/음식/{2:032x}.jpg').unlink()
    with pytest.raises(
        KoviltError, match=rf'1 of 4 images are absent, e.g. 음식/{2:032x}.jpg .*max_broken_fraction=0.01'
    ):
        open_(data)
    dataset = open_(data, max_broken_fraction=0.5)
    assert content(dataset) == [row for row in EXPECTED if row[-1] != f'{2:032x}.jpg']
    assert dataset.left_out == {'image absent': 3}
    assert dataset.broken_images() == [f'음식/{2:032x}.jpg']
    test = open_(data, test_mode=True, keep_record=True)
    assert len(test) == 12
    broken = [sample for sample in test.__getitems__(range(12)) if sample['record'].get('broken')]
    assert len(broken) == 3 and all(sample['image']['grid'] == (0, 0) for sample in broken)


def test_rows_of_unlisted_images_stay_in_evaluation(data):
    labels = data.living()
    labels['question'].append({'question_id': 99, 'image_id': 5, 'question': '고양이?', 'answer': '예'})
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', labels)
    test = open_(data, test_mode=True, keep_record=True)
    assert len(test) == 13
    assert [test[row]['record'].get('broken', False) for row in range(13)].count(True) == 1
    assert 'image_id 5' in test.broken_images()


def test_without_any_image_evaluation_stops_too(data):
    data.living(write_images=False)
    for test_mode in (True, False):
        with pytest.raises(KoviltError, match='4 of 4 images are absent.*Get '):
            open_(data, test_mode=test_mode)
    assert len(open_(data, test_mode=True, image_pipeline=[])) == 12  # texts alone


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda text: text[: len(text) // 2], r'json, line \d+, column \d+: .*malformed or cut off'),
        (lambda text: text.replace('"question_id": 7', '"question_id" 7'), r'json, line \d+, column \d+'),
        (lambda text: text.replace('"image_id": 9001,\n   "image"', '"imageid": 9001,\n   "image"'),
         r"line \d+: no 'image_id' in this row \(did you mean 'imageid'\?\)"),
        (lambda text: '{"images": [7], "question": []}', r"line 1, column \d+: expecting an object, found '7'"),
        (lambda text: '{"images": [], "question": []}', "no rows of split 'train'"),
        (lambda text: '{"annotations": []}', "has no list under 'question'"),
    ],
)  # fmt: skip
def test_malformed_labels_are_reported_with_their_place(data, change, message):
    data.living()
    path = data.root / f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json'
    text = path.read_text('utf-8')
    assert change(text) != text
    path.write_text(change(text), 'utf-8')
    with pytest.raises(KoviltError, match=message) as error:
        open_(data)
    assert '\n' not in str(error.value)


def test_malformed_labels_in_a_zip_name_zip_and_member(data):
    data.living()
    data.write(f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json', '{"images": [')
    data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}')
    with pytest.raises(KoviltError, match=rf'\[라벨\]{SUBSET}\.zip/{SUBSET}\.json, line 1, column 13'):
        open_(data)


def test_labels_in_a_damaged_zip_are_named(data):
    data.living()
    path = data.zip(f'Training/[라벨]{SUBSET}.zip', f'Training/labels/[라벨]{SUBSET}')
    path.write_bytes(path.read_bytes().replace('빨간색'.encode(), '빨강색'.encode(), 1))
    with pytest.raises(KoviltError, match=rf'{SUBSET}\.json: damaged in the zip \(wrong size') as error:
        open_(data)
    assert '\n' not in str(error.value)


def test_labels_beginning_with_a_byte_order_mark(data):
    data.living()
    path = data.root / f'Training/labels/[라벨]{SUBSET}/{SUBSET}.json'
    path.write_text('\ufeff' + path.read_text('utf-8'), 'utf-8')
    assert content(open_(data)) == EXPECTED
