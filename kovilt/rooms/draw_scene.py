"""Draws a scene with Pillow: wall and floor, soft light, and the objects from the farthest to the nearest."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from kovilt.rooms.draw_object import RGB, draw_object, mix
from kovilt.rooms.scene import WALL, Box, Scene, SceneObject, seeded_rng

WALLS: tuple[RGB, ...] = (
    (226, 218, 204), (212, 222, 226), (222, 226, 210), (230, 214, 210), (216, 212, 226), (224, 224, 222),
    (206, 220, 214),
)  # fmt: skip
FLOORS: tuple[RGB, ...] = (
    (204, 184, 158), (190, 174, 156), (216, 200, 176), (188, 188, 190), (204, 206, 202), (184, 190, 198),
    (198, 182, 172),
)  # fmt: skip
EVENING = np.array([1.0, 0.95, 0.88])  # red, green and blue of the lamp light on wall and floor,
EVENING_OBJECTS = (1.0, 0.98, 0.95)  # and on objects: weaker, so that white stays white


def draw_scene(scene: Scene, seed: int, split: str, index: int) -> tuple[Image.Image, list[Box], list[float]]:
    """The image, the box of the visible part of each object, and the share of each silhouette that is visible."""
    image = draw_background(scene, seeded_rng('kovilt rooms light', seed, split, index))
    masks: list[Image.Image] = []
    for obj in scene.objects:
        sprite, mask = draw_object(obj, scene.evening)
        if scene.evening:
            sprite = sprite.point([min(255, round(value * share)) for share in EVENING_OBJECTS for value in range(256)])
        if obj.zone != WALL:
            draw_shadow(image, obj)
        image.paste(sprite, obj.box[:2], mask)
        masks.append(mask)
    return image, *visible_parts(scene, masks)


def visible_parts(scene: Scene, masks: list[Image.Image]) -> tuple[list[Box], list[float]]:
    """Box and share of the part of each silhouette that nearer objects leave visible, in the order of the objects."""
    covered = Image.new('L', (scene.width, scene.height), 0)
    boxes: list[Box] = []
    shares: list[float] = []
    for obj, mask in zip(reversed(scene.objects), reversed(masks), strict=True):
        solid = mask.point(lambda value: 255 if value > 127 else 0)
        seen = ImageChops.subtract(solid, covered.crop(obj.box))
        x0, y0, x1, y1 = seen.getbbox() or (0, 0, 0, 0)
        boxes.append((obj.box[0] + x0, obj.box[1] + y0, obj.box[0] + x1, obj.box[1] + y1))
        shares.append(seen.histogram()[255] / max(1, solid.histogram()[255]))
        covered.paste(255, obj.box[:2], solid)
    return boxes[::-1], shares[::-1]


def draw_shadow(image: Image.Image, obj: SceneObject) -> None:
    """A flat shadow where an object stands."""
    x0, _, x1, base = obj.box
    reach = max(3, round(0.045 * (x1 - x0)))
    mask = Image.new('L', (x1 - x0 + 2 * reach, 2 * reach), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), 70)
    image.paste((40, 34, 30), (x0 - reach, base - reach), mask)


def draw_background(scene: Scene, rng: random.Random) -> Image.Image:
    """Wall, floor, skirting board, and light that falls off from one side."""
    wall, floor = rng.choice(WALLS), rng.choice(FLOORS)
    image = Image.new('RGB', (scene.width, scene.height), wall)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, scene.horizon, scene.width, scene.height), floor)
    line = mix(floor, (70, 55, 45), 0.16)
    if rng.random() < 0.5:  # boards
        step, y = scene.height // 14, scene.horizon
        while y < scene.height:
            y += step
            step = round(step * 1.25)
            draw.line((0, y, scene.width, y), line)
    else:  # tiles, in perspective
        middle = scene.width * rng.uniform(0.3, 0.7)
        for k in range(-12, 13):
            x = scene.width * k / 10
            draw.line((middle + x, scene.horizon, middle + 2.2 * x, scene.height), line)
        step, y = scene.height // 16, scene.horizon
        while y < scene.height:
            draw.line((0, y, scene.width, y), line)
            y += step
            step = round(step * 1.5)
    draw.rectangle((0, scene.horizon - 5, scene.width, scene.horizon), mix(wall, (255, 255, 255), 0.5))
    draw.line((0, scene.horizon + 1, scene.width, scene.horizon + 1), mix(floor, (40, 30, 30), 0.3))
    # Light: brightest at one end, a tenth darker at the other.
    brightness = 1 - rng.uniform(0.04, 0.12) * np.linspace(0, 1, scene.width)
    brightness = brightness[:: rng.choice((1, -1))] * rng.uniform(0.94, 1.0)
    pixels = np.asarray(image, np.float32) * brightness[None, :, None].astype(np.float32)
    if scene.evening:
        pixels *= EVENING.astype(np.float32)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
