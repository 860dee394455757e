"""The same seed gives the same data in every version of kovilt: trained models and published scores depend on it.

A change of these digests must be meant, and raises `kovilt.rooms.write.VERSION`.
"""

from __future__ import annotations

import hashlib
import json

import PIL
import pytest

from kovilt.rooms.captions import write_captions
from kovilt.rooms.draw_object import DRAWINGS, draw_object
from kovilt.rooms.draw_scene import draw_scene
from kovilt.rooms.questions import write_questions
from kovilt.rooms.scene import COLORS, KINDS, SceneObject, sample_scene

TEXTS = '34c4ad34c2ab803cec0aa926d2b74f3b6bbbb32f370343fb467a1d722d16b824'
PIXELS = 'd784edd3610d2d24567418c31ce8322e82681c9daf4eb43675a9c22152db901d'
OBJECTS = '01f4c77e59fcba31be30b3ab27d02ab73df8f7b265dc47fdeed0722779be04aa'
PILLOW = '13'  # major version that drew PIXELS and OBJECTS


def scenes(count: int):
    return [(split, i, sample_scene(3, split, i, alone=0.25)) for split in ('train', 'val') for i in range(count)]


def test_questions_and_captions_are_the_same():
    digest = hashlib.sha256()
    for split, index, scene in scenes(150):
        rows = [[row.text, row.answer, row.answer_type] for row in write_questions(scene, 3, split, index)]
        content = [rows, *write_captions(scene, 3, split, index)]
        digest.update(json.dumps(content, ensure_ascii=False).encode())
    assert digest.hexdigest() == TEXTS


@pytest.mark.skipif(PIL.__version__.split('.')[0] != PILLOW, reason=f'the digest is of Pillow {PILLOW}')
def test_pixels_and_boxes_are_the_same():
    digest = hashlib.sha256()
    for split, index, scene in scenes(10):
        image, boxes, _ = draw_scene(scene, 3, split, index)
        digest.update(image.tobytes())
        digest.update(repr(boxes).encode())
    assert digest.hexdigest() == PIXELS


@pytest.mark.skipif(PIL.__version__.split('.')[0] != PILLOW, reason=f'the digest is of Pillow {PILLOW}')
def test_every_object_is_the_same_in_all_sizes():
    digest = hashlib.sha256()
    colors = list(COLORS.values())
    for number, name in enumerate(DRAWINGS):
        for width, height in ((23, 31), (48, 37), (90, 120), (201, 163)):
            obj = SceneObject(KINDS[name], colors[number % len(colors)], '큰', box=(0, 0, width, height))
            for layer in draw_object(obj, evening=number % 2 == 0):
                digest.update(layer.tobytes())
    assert digest.hexdigest() == OBJECTS
