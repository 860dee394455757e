from __future__ import annotations

import numpy as np
import pytest

from kovilt.rooms.draw import DRAWERS, draw_scene, draw_thing
from kovilt.rooms.scene import COLORS, KINDS, Thing, sample_scene


def thing_of(kind: str, color: str, side: int = 90) -> Thing:
    aspect = KINDS[kind].aspect
    box = (0, 0, round(side * aspect**0.5), round(side / aspect**0.5))
    return Thing(KINDS[kind], COLORS[color], '큰', box=box)


def test_every_kind_has_a_drawing():
    assert set(DRAWERS) == set(KINDS)


@pytest.mark.parametrize('kind', KINDS)
def test_a_silhouette_fills_its_box_and_shows_its_colour(kind):
    thing = thing_of(kind, '파란색')
    image, mask = draw_thing(thing, evening=False)
    assert image.size == mask.size == thing.box[2:]
    solid = np.asarray(mask) > 127
    assert solid.mean() > 0.3
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    slack = 2  # pixels that a rounded edge may lose
    assert rows[0] <= slack and columns[0] <= slack
    assert rows[-1] >= solid.shape[0] - 1 - slack and columns[-1] >= solid.shape[1] - 1 - slack
    # The body's colour, its light and its shade together cover most of the silhouette, more than any other hue.
    red, green, blue = (np.asarray(image)[solid].astype(int)[:, channel] for channel in range(3))
    assert ((blue > red + 50) & (blue > green + 35)).mean() > 0.45


@pytest.mark.parametrize('kind', KINDS)
def test_silhouettes_of_a_kind_do_not_depend_on_the_colour(kind):
    masks = [np.asarray(draw_thing(thing_of(kind, color), evening=False)[1]) for color in ('빨간색', '흰색', '검은색')]
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()


def test_visible_boxes_lie_in_the_image_and_most_of_everything_is_seen():
    for index in range(150):
        scene = sample_scene(1, 'train', index)
        image, boxes, shares = draw_scene(scene, 1, 'train', index)
        assert image.size == (scene.width, scene.height) and len(boxes) == len(scene.things)
        assert min(shares) >= 0.75
        for thing, (x0, y0, x1, y1) in zip(scene.things, boxes, strict=True):
            assert thing.box[0] <= x0 < x1 <= thing.box[2] and thing.box[1] <= y0 < y1 <= thing.box[3]
            assert (x1 - x0) * (y1 - y0) >= 0.75 * thing.area
