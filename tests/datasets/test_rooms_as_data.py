"""The embedded data has the layout of the real data sets and is read by the same readers."""

import pytest

from kovilt.datasets import AIHubCOCOKoreanReader, AIHubLivingReader, QuestionDataset
from kovilt.rooms import make_rooms
from tests.support.pair_data import IMAGE_PIPELINE


@pytest.fixture(scope='module')
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp('rooms')
    for name, zipped in (('folders', False), ('zips', True)):
        make_rooms(root / name, images=5, val_images=2, seed=4, zipped=zipped)
    return root


@pytest.mark.parametrize('split, images', [('train', 5), ('val', 2)])
def test_folders_and_zips_hold_the_same_questions(rooms, split, images):
    sets = [
        QuestionDataset(
            reader=AIHubLivingReader(data_root=str(rooms / name / 'vqa'), split=split),
            image_pipeline=IMAGE_PIPELINE,
            text_pipeline=[],
        )
        for name in ('folders', 'zips')
    ]
    columns = ('question_id', 'question', 'answer', 'answer_type')
    first, second = ({tuple(each.record(row)[key] for key in columns) for row in range(len(each))} for each in sets)
    assert first == second and len(first) == len(sets[0]) == len(sets[1])
    for each in sets:
        assert each.num_images == images and not each.left_out and not each.broken_images()
    opened = []
    for each in sets:
        patches = [each._load_image(n, 0)['patches'].tobytes() for n in range(images)]
        opened.append(dict(zip(each.image_store.image_ids.tolist(), patches, strict=True)))
    assert opened[0] == opened[1]


def test_splits_share_no_image_and_captions_are_read(rooms):
    ids = []
    for split, images in (('train', 5), ('val', 2)):
        captions = AIHubCOCOKoreanReader(data_root=str(rooms / 'folders' / 'captions'), split=split).read_rows()
        assert len(captions) == 5 * images and len(captions.images) == images
        ids.append(set(captions.images.image_ids.tolist()))
    assert not ids[0] & ids[1]
