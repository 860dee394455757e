from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import dist

import pytest

from kovilt.rooms.scene import (
    COLORS,
    KINDS,
    MAX_HIDDEN,
    SIZES,
    WALL,
    hidden_share,
    sample_scene,
    seeded_rng,
)


@pytest.fixture(scope='module')
def scenes():
    return [sample_scene(0, 'train', index) for index in range(600)]


def test_a_scene_depends_on_its_key_alone():
    assert sample_scene(5, 'train', 8) == sample_scene(5, 'train', 8)
    others = [sample_scene(6, 'train', 8), sample_scene(5, 'val', 8), sample_scene(5, 'train', 9)]
    assert sample_scene(5, 'train', 8) not in others
    assert seeded_rng('a', 1).random() == seeded_rng('a', 1).random() != seeded_rng('a', 2).random()


def test_there_is_enough_to_see(scenes):
    assert len(KINDS) >= 16 and len(COLORS) >= 9
    assert {obj.kind.name for scene in scenes for obj in scene.objects} == set(KINDS)
    assert {obj.color.name for scene in scenes for obj in scene.objects} == set(COLORS)
    assert len({(scene.width, scene.height) for scene in scenes}) >= 4
    assert {len(scene.objects) for scene in scenes} == {2, 3, 4, 5}


def test_an_object_may_be_alone():
    scenes = [sample_scene(0, 'train', index, alone=0.5) for index in range(300)]
    assert 0.4 < sum(len(scene.objects) == 1 for scene in scenes) / len(scenes) < 0.6
    assert all(len(sample_scene(0, 'train', index, alone=1.0).objects) == 1 for index in range(50))


def test_colors_are_well_apart():
    assert min(dist(a.rgb, b.rgb) for a, b in combinations(COLORS.values(), 2)) > 80


def test_no_object_leaves_the_image_or_is_hidden(scenes):
    for scene in scenes:
        for obj in scene.objects:
            x0, y0, x1, y1 = obj.box
            assert 0 <= x0 < x1 <= scene.width and 0 <= y0 < y1 <= scene.height
            assert hidden_share(obj, list(scene.objects)) <= MAX_HIDDEN


def test_sizes_are_clear(scenes):
    assert SIZES['큰'] / SIZES['작은'] >= 1.6
    for scene in scenes:
        side = min(scene.width, scene.height)
        by_size = {size: [(obj.area**0.5) / side for obj in scene.objects if obj.size == size] for size in SIZES}
        assert all(0.25 <= share <= 0.52 for shares in by_size.values() for share in shares)
        if all(by_size.values()):
            assert min(by_size['큰']) > 1.45 * max(by_size['작은'])


def test_objects_stand_in_their_zones(scenes):
    on_something = 0
    for scene in scenes:
        for obj in scene.objects:
            assert obj.kind.wall == (obj.zone == WALL)
            if obj.zone in KINDS:
                [holder] = [other for other in scene.objects if other.kind.name == obj.zone]
                assert holder.kind.support and obj.kind.portable
                assert holder.box[0] <= obj.x <= holder.box[2] and holder.box[1] <= obj.box[3] <= holder.box[3]
                on_something += 1
            elif not obj.kind.wall:
                assert obj.box[3] > scene.horizon
    assert on_something > 30


def test_kinds_colors_and_counts_are_drawn_evenly(scenes):
    colors = Counter(obj.color.name for scene in scenes for obj in scene.objects)
    assert max(colors.values()) < 1.35 * min(colors.values())
    most = Counter(max(scene.count(obj.kind) for obj in scene.objects) for scene in scenes)
    assert set(most) == {1, 2, 3, 4} and max(most.values()) < 1.4 * min(most.values())
