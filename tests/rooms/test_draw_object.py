from __future__ import annotations

import numpy as np
import pytest

from kovilt.rooms.draw_object import DRAWINGS, draw_object
from kovilt.rooms.scene import COLORS, KINDS, SceneObject


def object_of(kind: str, color: str, side: int = 90) -> SceneObject:
    aspect = KINDS[kind].aspect
    box = (0, 0, round(side * aspect**0.5), round(side / aspect**0.5))
    return SceneObject(KINDS[kind], COLORS[color], '큰', box=box)


def test_every_kind_has_a_drawing():
    assert set(DRAWINGS) == set(KINDS)


@pytest.mark.parametrize('kind', KINDS)
def test_a_silhouette_fills_its_box_and_shows_its_color(kind):
    obj = object_of(kind, '파란색')
    image, mask = draw_object(obj, evening=False)
    assert image.size == mask.size == obj.box[2:]
    solid = np.asarray(mask) > 127
    assert solid.mean() > 0.3
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    slack = 2  # pixels that a rounded edge may lose
    assert rows[0] <= slack and columns[0] <= slack
    assert rows[-1] >= solid.shape[0] - 1 - slack and columns[-1] >= solid.shape[1] - 1 - slack
    # The object's color, its light and its shade together cover most of the silhouette, more than any other hue.
    red, green, blue = (np.asarray(image)[solid].astype(int)[:, channel] for channel in range(3))
    assert ((blue > red + 50) & (blue > green + 35)).mean() > 0.45


@pytest.mark.parametrize('kind', KINDS)
def test_silhouettes_of_a_kind_do_not_depend_on_the_color(kind):
    masks = [
        np.asarray(draw_object(object_of(kind, color), evening=False)[1]) for color in ('빨간색', '흰색', '검은색')
    ]
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()
