from __future__ import annotations

from kovilt.rooms.draw_scene import draw_scene
from kovilt.rooms.scene import sample_scene


def test_visible_boxes_lie_in_the_image_and_most_of_everything_is_seen():
    for index in range(150):
        scene = sample_scene(1, 'train', index)
        image, boxes, shares = draw_scene(scene, 1, 'train', index)
        assert image.size == (scene.width, scene.height) and len(boxes) == len(scene.objects)
        assert min(shares) >= 0.75
        for obj, (x0, y0, x1, y1) in zip(scene.objects, boxes, strict=True):
            assert obj.box[0] <= x0 < x1 <= obj.box[2] and obj.box[1] <= y0 < y1 <= obj.box[3]
            assert (x1 - x0) * (y1 - y0) >= 0.75 * obj.area
