"""The alignment score finds the object words, sums the plan over all their tokens, and knows its baselines."""

import json

import numpy as np
import pytest
import torch

from kovilt.errors import KoviltError
from kovilt.evaluation import score_alignment, score_word_alignments
from kovilt.evaluation.alignment import WordAlignment, align_words, find_object_words, patches_in_boxes, read_boxes

NAMES = {'책', '책상', '개', '의자', '시계', '창문'}


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('책상 위에 책이 있다.', [(0, '책상'), (2, '책')]),
        ('책상은 의자보다 크다', [(0, '책상'), (1, '의자')]),
        ('책꽂이와 시계탑', []),  # nouns of their own
        ('의자에서는 창문까지', [(0, '의자'), (1, '창문')]),  # stacked particles
        ('이것은 시계예요? 시계입니다.', [(1, '시계'), (2, '시계')]),
        ('의자들이 많다', [(0, '의자')]),
        ('의자 두 개가 있고 개가 잔다', [(0, '의자'), (4, '개')]),  # the first 개 counts chairs
        ('몇 개의 의자', [(2, '의자')]),
        ('"책"', [(0, '책')]),
        ('', []),
    ],
)
def test_object_words(text, found):
    assert find_object_words(text, NAMES) == found


def test_patches_inside_scale_with_the_image():
    left_half = np.array([[0.0, 0.0, 0.5, 1.0]])
    assert patches_in_boxes((2, 4), left_half).tolist() == [True, True, False, False] * 2
    corner = np.array([[0.5, 0.5, 1.0, 1.0]])
    assert patches_in_boxes((2, 2), corner).tolist() == [False, False, False, True]
    assert patches_in_boxes((2, 2), np.concatenate([left_half, corner])).sum() == 3
    assert not patches_in_boxes((3, 3), np.empty((0, 4))).any()


def test_the_tokens_of_a_word_add_up():
    """Neither token alone points at patch 1, both together do."""
    plan = np.array([[0.0, 0, 0, 0], [0.5, 0.4, 0, 0], [0, 0.4, 0.5, 0], [0, 0, 0, 0]])
    boxes = {'의자': np.array([[0.5, 0.0, 1.0, 0.5]])}  # patch 1 of a grid of 2 x 2
    (word,) = align_words(plan, np.array([-1, 0, 0, -1]), (2, 2), '의자가', boxes, NAMES)
    assert (word.name, word.patch, word.inside.tolist()) == ('의자', 1, [False, True, False, False])
    assert align_words(plan, np.array([-1, 0, 1, -1]), (2, 2), '의자가 있다', boxes, NAMES)[0].patch == 0


def test_words_without_an_object_or_cut_off_are_left_out():
    plan, boxes = np.ones((2, 4)), {'의자': np.array([[0.0, 0, 1, 1]])}
    assert align_words(plan, np.array([-1, 0]), (2, 2), '시계', boxes, NAMES) == []
    assert align_words(plan, np.array([-1, 0]), (2, 2), '있다 의자가', boxes, NAMES) == []
    with pytest.raises(ValueError, match='does not fit'):
        align_words(plan, np.array([-1, 0]), (3, 2), '의자', boxes, NAMES)


def test_a_random_plan_scores_the_random_baseline():
    generator = np.random.default_rng(0)
    boxes = {'의자': np.array([[0.0, 0.0, 0.5, 0.5]])}
    plans = generator.random((4000, 1, 64))
    images = [align_words(plan, np.zeros(1), (8, 8), '의자', boxes, NAMES) for plan in plans]
    score = score_word_alignments(images, resamples=200)
    assert score['alignment_random'] == 25 and score['words'] == 4000
    assert score['alignment_interval'][0] < 25 < score['alignment_interval'][1]
    assert score == score_word_alignments(images, resamples=200)
    assert score['alignment_swapped'] is None


def test_seeing_that_there_is_something_is_not_alignment():
    """Both images: a chair in patch 0, a clock in patch 1, ten patches of wall."""
    chair, clock = np.arange(12) == 0, np.arange(12) == 1
    told_apart = [[WordAlignment('의자', 0, chair), WordAlignment('시계', 1, clock)]] * 2
    salient = [
        [WordAlignment('의자', 0, chair), WordAlignment('시계', 0, clock)],
        [WordAlignment('의자', 1, chair), WordAlignment('시계', 1, clock)],
    ]
    good, salient_score = score_word_alignments(told_apart), score_word_alignments(salient)
    assert (good['alignment_accuracy'], good['alignment_swapped']) == (100, 0)
    assert (salient_score['alignment_accuracy'], salient_score['alignment_swapped']) == (50, 50)
    assert good['alignment_random'] == salient_score['alignment_random'] == pytest.approx(100 / 12)
    assert salient_score['per_name']['의자'] == [50, pytest.approx(100 / 12), 2]


def test_the_interval_is_of_images():
    """Words of one image that agree tell no more than one word does."""
    inside = np.array([True, False])
    few = [[WordAlignment('의자', i % 2, inside)] for i in range(40)]
    many = [words * 25 for words in few]
    assert score_word_alignments(many)['alignment_interval'] == pytest.approx(
        score_word_alignments(few)['alignment_interval']
    )
    assert score_word_alignments([[], *few])['images'] == 40
    with pytest.raises(KoviltError, match='no object word'):
        score_word_alignments([[], []])


def boxes_file(tmp_path, *lines):
    path = tmp_path / 'boxes.jsonl'
    path.write_text('\n'.join(lines), encoding='utf-8')
    return path


ROOM = json.dumps(
    dict(
        file='a.jpg',
        coco_file='val2014/b.jpg',
        width=200,
        height=100,
        objects=[
            dict(name='의자', color='빨간색', box=[0, 0, 100, 50]),
            dict(name='의자', color='파란색', box=[0, 50, 100, 100]),
        ],
    ),
    ensure_ascii=False,
)


def test_read_boxes_names_the_line_at_fault(tmp_path):
    images, names = read_boxes(boxes_file(tmp_path, ROOM))
    assert names == {'의자'} and images.keys() == {'a.jpg', 'b.jpg'}
    assert images['a.jpg']['의자'].tolist() == [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1]]
    for broken in ('{"file": "c.jpg"}', '{"file": ', '[]'):
        with pytest.raises(KoviltError, match='boxes.jsonl, line 2'):
            read_boxes(boxes_file(tmp_path, ROOM, broken))
    with pytest.raises(KoviltError, match='no boxes file'):
        read_boxes(tmp_path / 'none.jsonl')


class PointsLeft(torch.nn.Module):
    """A stand-in for the model: every word sends all its mass to the first patch."""

    def align(self, batch):
        assert not self.training
        plan = torch.zeros(len(batch['input_ids']), batch['input_ids'].shape[1], int(batch['grids'].prod(1).max()))
        plan[:, :, :1] = 1
        return plan, None, None


def batch(image='/data/captions/val2014/b.jpg', grid=(1, 2)):
    return dict(
        input_ids=torch.zeros(2, 4, dtype=torch.int64),
        grids=torch.tensor([grid]),
        image_index=torch.zeros(2, dtype=torch.int64),
        word_ids=torch.tensor([[-1, 0, -1, -1], [-1, 0, 1, -1]]),
        records=[dict(image=image, text='의자'), dict(image=image, text='의자가 있다')],
    )


def test_score_alignment_reads_the_loader(tmp_path):
    model = PointsLeft().train()
    score = score_alignment(model, [[batch()], [batch(grid=(0, 0)), batch(grid=(2, 3))]], boxes_file(tmp_path, ROOM))
    assert model.training
    assert score['alignment_accuracy'] == 100 and score['words'] == 4 and score['images'] == 1
    assert score['alignment_random'] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    with pytest.raises(KoviltError, match='no boxes for other.jpg'):
        score_alignment(model, [[batch('other.jpg')]], boxes_file(tmp_path, ROOM))
