"""Copies are found after encoding, scaling and slight cropping; images that are merely alike are not copies."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from kovilt.rooms.draw_scene import draw_scene
from kovilt.rooms.scene import sample_scene
from kovilt.verification.copies import MAX_DISTANCE, find_copies, fingerprint, is_copy

SCENES = 24


@pytest.fixture(scope='module')
def scenes() -> list[Image.Image]:
    """Images of Rooms, which share walls, floors and kinds of furniture."""
    return [draw_scene(sample_scene(0, 'train', n, alone=0.25), 0, 'train', n)[0] for n in range(SCENES)]


def pixels(image: Image.Image) -> np.ndarray:
    return np.array(image.convert('RGB'))


def encode(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=quality)
    return Image.open(buffer)


def scale(image: Image.Image, factor: float) -> Image.Image:
    return encode(image.resize((round(image.width * factor), round(image.height * factor))), 85)


def crop(image: Image.Image, share: float) -> Image.Image:
    left, top = round(share * image.width), round(share * image.height)
    return encode(image.crop((left, top, image.width - left, image.height - top)), 85)


def brighten(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda level: min(255, round(level * factor)))


CHANGES = [
    *((encode, quality) for quality in (30, 50, 75, 95)),
    *((scale, factor) for factor in (0.5, 0.75, 1.5, 2.0)),
    (crop, 0.01),
    (brighten, 1.05),
]


def distance(one: Image.Image, other: Image.Image) -> int:
    first, second = (np.frombuffer(fingerprint(pixels(image)), np.uint8) for image in (one, other))
    return int(np.bitwise_count(first ^ second).sum())


@pytest.mark.parametrize('change, amount', CHANGES, ids=lambda value: getattr(value, '__name__', value))
def test_a_changed_copy_is_found(scenes, change, amount):
    for scene in scenes[:6]:
        copy = change(scene, amount)
        assert distance(scene, copy) <= MAX_DISTANCE and is_copy(pixels(copy), pixels(scene))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(number=st.integers(0, SCENES - 1), quality=st.integers(30, 95), factor=st.floats(0.5, 2))
def test_a_copy_of_any_size_and_quality_is_found(scenes, number, quality, factor):
    scene = scenes[number]
    copy = encode(scene.resize((round(scene.width * factor), round(scene.height * factor))), quality)
    assert distance(scene, copy) <= MAX_DISTANCE and is_copy(pixels(copy), pixels(scene))


def test_scenes_of_one_kind_are_no_copies(scenes):
    for number, scene in enumerate(scenes[:8]):
        assert not any(is_copy(pixels(scene), pixels(other)) for other in scenes[number + 1 :: 3])


def chart(*heights: int) -> Image.Image:
    image = Image.new('RGB', (640, 480), 'white')
    draw = ImageDraw.Draw(image)
    draw.line((40, 40, 40, 440, 620, 440), fill='black', width=2)
    for number, height in enumerate(heights):
        draw.rectangle((70 + 100 * number, 440 - height, 130 + 100 * number, 440), fill=(31, 119, 180))
    return image


def page(*words: str) -> Image.Image:
    image = Image.new('RGB', (640, 480), 'white')
    for number, word in enumerate(words):
        ImageDraw.Draw(image).text((60, 40 + 40 * number), word * 6, fill='black', font_size=20)
    return image


@pytest.mark.parametrize(
    'one, other',
    [
        (chart(100, 200, 300, 250), chart(100, 200, 330, 250)),
        (chart(100, 200, 300), chart(100, 200, 300, 250)),
        (page('lamp', 'sofa', 'table', 'chair'), page('lamp', 'rug', 'table', 'chair')),
    ],
)
def test_charts_and_pages_that_differ_in_one_place_are_no_copies(one, other):
    assert is_copy(pixels(encode(one, 60)), pixels(one)) and is_copy(pixels(scale(other, 0.5)), pixels(other))
    assert not is_copy(pixels(one), pixels(other)) and not is_copy(pixels(other), pixels(one))


def test_an_image_of_another_shape_is_no_copy(scenes):
    squeezed = scenes[0].resize((scenes[0].width, scenes[0].height * 2 // 3))
    assert not is_copy(pixels(squeezed), pixels(scenes[0]))


def test_an_image_without_contrast_has_no_fingerprint():
    assert fingerprint(np.full((40, 60, 3), 200, np.uint8)) is None
    assert len(fingerprint(pixels(chart(100)))) == 32


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (33, 31), (640, 3)])
def test_images_of_any_size_can_be_compared(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    fingerprint(noise)
    assert not is_copy(noise, 255 - noise)


@pytest.mark.parametrize('workers', [1, 2])
def test_the_original_of_each_copy_is_found_among_many(scenes, tmp_path, workers):
    copies = [encode(scenes[3], 40), scenes[SCENES - 1], scale(scenes[7], 0.6), Image.new('RGB', (64, 64))]
    images = [*scenes[: SCENES - 1], *copies]
    places = [tmp_path / f'{number}.png' for number in range(len(images))]
    for place, image in zip(places, images, strict=True):
        image.save(place)
    fingerprints = [fingerprint(pixels(image)) for image in images]
    originals, suspects = range(SCENES - 1), range(SCENES - 1, len(images))
    found = find_copies(places, fingerprints, suspects, originals, workers=workers)
    assert found == {SCENES - 1: 3, SCENES + 1: 7}
    assert not find_copies(places, fingerprints, suspects, [], workers=workers)


def test_an_image_that_is_gone_meanwhile_is_no_copy(scenes, tmp_path):
    places = [tmp_path / 'gone.png', tmp_path / 'there.png']
    scenes[0].save(places[1])
    fingerprints = [fingerprint(pixels(scenes[0]))] * 2
    assert not find_copies(places, fingerprints, [1], [0], workers=1)
