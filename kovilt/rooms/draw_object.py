"""Draws one object of a scene with Pillow: flat colors, dark outlines, no texture, no text.

Each kind is drawn in its own unit square, x and y in 0..1, on a canvas SUPERSAMPLE times the final size. Its silhouette
touches all four sides, so that the box is exact, and the object's color covers the largest part of the silhouette.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw

from kovilt.rooms.scene import SceneObject

SUPERSAMPLE = 3
RGB = tuple[int, int, int]
UnitBox = tuple[float, float, float, float]  # x0, y0, x1, y1 in 0..1
WHITE: RGB = (255, 255, 255)
PALE: RGB = (238, 236, 228)
STEEL: RGB = (158, 162, 168)
DARK: RGB = (66, 66, 72)
LEAF: RGB = (120, 148, 104)
SCREEN: RGB = (140, 156, 166)
DAY_SKY: RGB = (206, 228, 240)
NIGHT_SKY: RGB = (112, 118, 142)
MAT: RGB = (204, 210, 206)
DUSK: RGB = (132, 140, 142)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of b in a."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


class Pen:
    """Draws shapes in the unit square of one object, into its image and its mask.

    Attributes:
        color: of the object; `shade` is darker, `light` lighter, `pale` nearly white.
        line: of outlines.
        mark: of details, which must be seen on `color`.
    """

    def __init__(self, width: int, height: int, color: RGB, evening: bool) -> None:
        self.width, self.height = width * SUPERSAMPLE, height * SUPERSAMPLE
        self.image = Image.new('RGB', (self.width, self.height), mix(color, (0, 0, 0), 0.5))
        self.mask = Image.new('L', (self.width, self.height), 0)
        self.draw, self.mask_draw = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.evening = evening
        brightness = sum(color) / 3
        self.color = color
        self.light = mix(color, WHITE, 0.22)
        self.pale = mix(color, WHITE, 0.6) if brightness < 240 else (228, 228, 228)
        self.shade = mix(color, WHITE, 0.20) if brightness < 60 else mix(color, (0, 0, 0), 0.2)
        self.line = (10, 10, 12) if brightness < 60 else mix(color, (20, 16, 20), 0.45 if brightness > 200 else 0.55)
        self.mark = DARK if brightness > 150 else PALE
        self.stroke = max(SUPERSAMPLE, round(0.016 * (self.width * self.height) ** 0.5))

    def points(self, xy: tuple[float, ...]) -> list[tuple[float, float]]:
        """x, y, x, y, ... in 0..1 as points in pixels of the canvas."""
        w, h = self.width - 1, self.height - 1
        return [(x * w, y * h) for x, y in zip(xy[::2], xy[1::2], strict=True)]

    def fill_shape(self, shape: str, *geometry: Any, fill: RGB, outline: bool = True) -> None:
        """Draws a filled shape, named as in ImageDraw, into the image and its silhouette into the mask."""
        line, stroke = (self.line, self.stroke) if outline else (None, 0)
        getattr(self.draw, shape)(*geometry, fill, line, stroke)
        getattr(self.mask_draw, shape)(*geometry, 255)

    def box(self, *boxes: UnitBox, fill: RGB, radius: float = 0.0, outline: bool = True) -> None:
        """Rectangles; `radius` of their corners as a share of the shorter side."""
        for box in boxes:
            (x0, y0), (x1, y1) = ends = self.points(box)
            self.fill_shape('rounded_rectangle', ends, radius * min(x1 - x0, y1 - y0), fill=fill, outline=outline)

    def oval(self, *boxes: UnitBox, fill: RGB, outline: bool = True) -> None:
        """Ellipses, each by the box that holds it."""
        for box in boxes:
            self.fill_shape('ellipse', self.points(box), fill=fill, outline=outline)

    def slice(self, *xy: float, start: float, end: float, fill: RGB) -> None:
        """The part of an oval between two angles, clockwise from three o'clock, in degrees, closed by a chord."""
        self.fill_shape('chord', self.points(xy), start, end, fill=fill)

    def shape(self, *xy: float, fill: RGB, outline: bool = True) -> None:
        """A polygon through x, y, x, y, ..."""
        self.fill_shape('polygon', self.points(xy), fill=fill, outline=outline)

    def ring(self, *xy: float, thickness: float, fill: RGB, start: float = 0, end: float = 360) -> None:
        """An arc; `thickness` as a share of the canvas's width."""
        ends, width = self.points(xy), round(thickness * self.width)
        self.draw.arc(ends, start, end, self.line, width)
        self.mask_draw.arc(ends, start, end, 255, width)
        inner = self.stroke
        (ax, ay), (bx, by) = ends
        self.draw.arc([(ax + inner, ay + inner), (bx - inner, by - inner)], start, end, fill, max(1, width - 2 * inner))

    def stick(self, *xy: float, fill: RGB, thickness: float) -> None:
        """A line through points; `thickness` as a share of the canvas's width."""
        points, width = self.points(xy), max(2, round(thickness * self.width))
        self.draw.line(points, fill, width, joint='curve')
        self.mask_draw.line(points, 255, width, joint='curve')


def draw_sofa(pen: Pen) -> None:
    for x in (0.10, 0.82):
        pen.box((x, 0.86, x + 0.08, 1), fill=DARK)
    pen.box((0.08, 0, 0.92, 0.75), fill=pen.color, radius=0.25)
    pen.stick(0.5, 0.05, 0.5, 0.5, fill=pen.line, thickness=0.012)
    pen.box((0.10, 0.64, 0.90, 0.92), fill=pen.shade, radius=0.1)
    pen.box((0.14, 0.48, 0.505, 0.70), (0.495, 0.48, 0.86, 0.70), fill=pen.light, radius=0.3)
    pen.box((0, 0.30, 0.19, 0.92), (0.81, 0.30, 1, 0.92), fill=pen.color, radius=0.45)


def draw_chair(pen: Pen) -> None:
    pen.box((0.18, 0.55, 0.30, 0.90), (0.70, 0.55, 0.82, 0.90), fill=pen.shade)
    pen.box((0.10, 0, 0.90, 0.22), fill=pen.color, radius=0.4)
    pen.box((0.10, 0.08, 0.24, 0.56), (0.76, 0.08, 0.90, 0.56), (0.22, 0.28, 0.78, 0.40), fill=pen.color)
    pen.box((0.12, 0.06, 0.88, 0.20), fill=pen.color, outline=False)
    pen.box((0.02, 0.62, 0.17, 1), (0.83, 0.62, 0.98, 1), fill=pen.color)
    pen.shape(0.12, 0.50, 0.88, 0.50, 1, 0.64, 0, 0.64, fill=pen.light)
    pen.box((0, 0.63, 1, 0.72), fill=pen.color)


def draw_table(pen: Pen) -> None:
    pen.box((0.20, 0.30, 0.29, 0.84), (0.71, 0.30, 0.80, 0.84), (0.07, 0.30, 0.93, 0.46), fill=pen.shade)
    pen.box((0.05, 0.30, 0.18, 1), (0.82, 0.30, 0.95, 1), fill=pen.color)
    pen.shape(0.12, 0, 0.88, 0, 1, 0.22, 0, 0.22, fill=pen.light)
    pen.box((0, 0.20, 1, 0.34), fill=pen.color)


def draw_bed(pen: Pen) -> None:
    pen.box((0.06, 0.84, 0.14, 1), (0.87, 0.84, 0.95, 1), fill=DARK)
    pen.box((0.05, 0.46, 0.97, 0.74), fill=pen.pale, radius=0.3)
    pen.box((0.10, 0.30, 0.32, 0.54), fill=pen.pale, radius=0.5)
    pen.shape(0.30, 0.74, 0.33, 0.42, 0.94, 0.42, 0.97, 0.50, 0.97, 0.74, fill=pen.color)
    pen.shape(0.30, 0.74, 0.33, 0.42, 0.45, 0.42, 0.42, 0.74, fill=pen.light)
    pen.box((0.03, 0.68, 0.98, 0.90), fill=pen.color)
    pen.box((0, 0, 0.11, 0.97), (0.92, 0.34, 1, 0.97), fill=pen.color, radius=0.4)


def draw_lamp(pen: Pen) -> None:
    pen.box((0.44, 0.45, 0.56, 0.90), fill=pen.shade)
    pen.oval((0.18, 0.84, 0.82, 1), fill=pen.color)
    pen.oval((0.30, 0.50, 0.70, 0.62), fill=(255, 244, 190))
    pen.shape(0.26, 0, 0.74, 0, 1, 0.56, 0, 0.56, fill=pen.color)
    pen.shape(0.32, 0.04, 0.44, 0.04, 0.34, 0.52, 0.12, 0.52, fill=pen.light, outline=False)


def draw_television(pen: Pen) -> None:
    pen.stick(0.5, 0.24, 0.24, 0.01, fill=DARK, thickness=0.03)
    pen.stick(0.5, 0.24, 0.76, 0.01, fill=DARK, thickness=0.03)
    pen.oval((0.20, 0, 0.28, 0.09), (0.72, 0, 0.80, 0.09), fill=DARK, outline=False)
    pen.box((0.14, 0.88, 0.24, 1), (0.76, 0.88, 0.86, 1), fill=DARK)
    pen.box((0, 0.22, 1, 0.93), fill=pen.color, radius=0.18)
    pen.box((0.09, 0.32, 0.70, 0.83), fill=SCREEN, radius=0.22)
    pen.shape(0.18, 0.38, 0.34, 0.38, 0.22, 0.74, 0.15, 0.74, fill=mix(SCREEN, WHITE, 0.4), outline=False)
    pen.oval((0.78, 0.33, 0.92, 0.48), (0.78, 0.52, 0.92, 0.67), fill=pen.mark)


def draw_refrigerator(pen: Pen) -> None:
    pen.box((0.10, 0.94, 0.26, 1), (0.74, 0.94, 0.90, 1), fill=DARK)
    pen.box((0, 0, 1, 0.97), fill=pen.color, radius=0.12)
    pen.box((0.86, 0.04, 0.97, 0.93), fill=pen.shade, radius=0.3, outline=False)
    pen.stick(0.01, 0.36, 0.99, 0.36, fill=pen.line, thickness=0.035)
    pen.box((0.12, 0.13, 0.22, 0.31), (0.12, 0.42, 0.22, 0.68), fill=STEEL, radius=0.5)


def draw_plant(pen: Pen) -> None:
    stem, tip = mix(LEAF, (0, 0, 0), 0.3), mix(LEAF, WHITE, 0.15)
    pen.shape(0.50, 0.56, 0.28, 0.34, 0.02, 0.06, 0.38, 0.20, fill=LEAF)
    pen.shape(0.50, 0.56, 0.72, 0.34, 0.98, 0.06, 0.62, 0.20, fill=LEAF)
    pen.shape(0.50, 0.56, 0.24, 0.46, 0.00, 0.34, 0.30, 0.32, fill=tip)
    pen.shape(0.50, 0.56, 0.76, 0.46, 1.00, 0.34, 0.70, 0.32, fill=tip)
    pen.shape(0.50, 0.56, 0.37, 0.26, 0.50, 0.00, 0.63, 0.26, fill=tip)
    pen.stick(0.50, 0.54, 0.50, 0.12, fill=stem, thickness=0.02)
    pen.shape(0.12, 0.56, 0.88, 0.56, 0.74, 1, 0.26, 1, fill=pen.color)
    pen.shape(0.22, 0.64, 0.34, 0.64, 0.38, 0.95, 0.32, 0.95, fill=pen.light, outline=False)
    pen.box((0.04, 0.48, 0.96, 0.63), fill=pen.color, radius=0.3)


def draw_book(pen: Pen) -> None:
    pen.box((0, 0.06, 1, 1), fill=pen.shade, radius=0.06)
    pen.box((0.12, 0.84, 0.97, 0.96), fill=PALE)
    pen.stick(0.14, 0.90, 0.95, 0.90, fill=STEEL, thickness=0.012)
    pen.box((0, 0, 1, 0.86), fill=pen.color, radius=0.06)
    pen.box((0, 0, 0.16, 1), fill=pen.shade, radius=0.3)
    pen.box((0.30, 0.14, 0.86, 0.34), fill=pen.mark)
    pen.stick(0.38, 0.46, 0.78, 0.46, fill=pen.mark, thickness=0.035)
    pen.stick(0.44, 0.56, 0.72, 0.56, fill=pen.mark, thickness=0.035)


def draw_clock(pen: Pen) -> None:
    pen.oval((0, 0, 1, 1), fill=DARK)
    pen.oval((0.07, 0.07, 0.93, 0.93), fill=pen.color)
    for x, y in ((0.5, 0.16), (0.84, 0.5), (0.5, 0.84), (0.16, 0.5)):
        pen.oval((x - 0.045, y - 0.045, x + 0.045, y + 0.045), fill=pen.mark, outline=False)
    pen.stick(0.5, 0.5, 0.5, 0.22, fill=pen.mark, thickness=0.05)
    pen.stick(0.5, 0.5, 0.70, 0.60, fill=pen.mark, thickness=0.06)
    pen.oval((0.45, 0.45, 0.55, 0.55), fill=pen.mark, outline=False)


def draw_window(pen: Pen) -> None:
    sky = NIGHT_SKY if pen.evening else DAY_SKY
    pen.box((0.20, 0, 0.80, 0.94), fill=pen.color)
    pen.box((0.28, 0.10, 0.72, 0.84), fill=sky)
    if pen.evening:  # the moon
        pen.oval((0.56, 0.16, 0.66, 0.30), fill=(250, 240, 190), outline=False)
    else:
        pen.oval((0.54, 0.20, 0.68, 0.32), fill=WHITE, outline=False)
    pen.box((0.465, 0.06, 0.535, 0.88), (0.24, 0.44, 0.76, 0.53), fill=pen.color)
    for x in (0, 0.78):
        pen.box((x, 0.03, x + 0.22, 0.91), fill=pen.color)
        for y in (0.16, 0.30, 0.44, 0.58, 0.72):
            pen.box((x + 0.05, y, x + 0.17, y + 0.05), fill=pen.shade, outline=False)
    pen.box((0.14, 0.90, 0.86, 1), fill=pen.shade)


def draw_frame(pen: Pen) -> None:
    pen.stick(0.14, 0.18, 0.5, 0.02, 0.86, 0.18, fill=DARK, thickness=0.025)
    pen.oval((0.45, 0, 0.55, 0.09), fill=DARK, outline=False)
    pen.box((0, 0.15, 1, 1), fill=pen.color)
    pen.box((0.05, 0.19, 0.95, 0.96), fill=pen.light, outline=False)
    pen.box((0.09, 0.23, 0.91, 0.92), fill=pen.color, outline=False)
    pen.box((0.20, 0.32, 0.80, 0.83), fill=MAT)
    pen.shape(0.22, 0.81, 0.40, 0.48, 0.54, 0.70, 0.62, 0.60, 0.78, 0.81, fill=DUSK, outline=False)
    pen.oval((0.60, 0.38, 0.72, 0.49), fill=mix(MAT, WHITE, 0.6), outline=False)


def draw_cat(pen: Pen) -> None:
    pen.ring(0.56, 0.52, 1.0, 0.98, thickness=0.12, fill=pen.color, start=250, end=110)
    pen.oval((0.12, 0.46, 0.78, 1.0), fill=pen.color)
    pen.box((0.22, 0.70, 0.40, 1), (0.50, 0.70, 0.68, 1), fill=pen.color, radius=0.5)
    pen.shape(0.02, 0, 0.36, 0.14, 0.08, 0.34, fill=pen.color)
    pen.shape(0.88, 0, 0.54, 0.14, 0.82, 0.34, fill=pen.color)
    pen.shape(0.08, 0.07, 0.24, 0.14, 0.11, 0.24, fill=(238, 170, 170), outline=False)
    pen.shape(0.82, 0.07, 0.66, 0.14, 0.79, 0.24, fill=(238, 170, 170), outline=False)
    pen.oval((0, 0.10, 0.90, 0.60), fill=pen.color)
    for x in (0.20, 0.58):
        pen.oval((x, 0.26, x + 0.12, 0.40), fill=pen.mark, outline=False)
    pen.shape(0.41, 0.42, 0.49, 0.42, 0.45, 0.47, fill=(238, 150, 150), outline=False)
    for x, end in ((0.34, 0.06), (0.56, 0.84)):
        for y in (0.42, 0.48):
            pen.stick(x, 0.45, end, y + (y - 0.45), fill=pen.mark, thickness=0.015)


def draw_dog(pen: Pen) -> None:
    pen.stick(0.10, 0.52, 0.03, 0.20, fill=pen.line, thickness=0.10)
    pen.stick(0.10, 0.52, 0.03, 0.22, fill=pen.color, thickness=0.07)
    pen.box((0, 0.16, 0.07, 0.3), fill=pen.color, radius=0.5, outline=False)
    for x in (0.20, 0.54):
        pen.box((x, 0.62, x + 0.11, 0.97), fill=pen.shade, radius=0.3)
    pen.box((0.05, 0.42, 0.72, 0.80), fill=pen.color, radius=0.6)
    for x in (0.08, 0.60):
        pen.box((x, 0.62, x + 0.12, 1), fill=pen.color, radius=0.3)
    pen.box((0.07, 0.55, 0.70, 0.76), fill=pen.color, radius=0.6, outline=False)
    pen.box((0.70, 0.22, 1, 0.45), fill=pen.color, radius=0.5)
    pen.box((0.48, 0, 0.86, 0.56), fill=pen.color, radius=0.45)
    pen.box((0.74, 0.25, 0.95, 0.42), fill=pen.color, radius=0.5, outline=False)
    pen.box((0.91, 0.21, 1, 0.33), fill=DARK, radius=0.5)
    pen.oval((0.70, 0.14, 0.78, 0.25), fill=pen.mark, outline=False)
    pen.box((0.44, 0.04, 0.59, 0.46), fill=pen.shade, radius=0.5)
    pen.box((0.50, 0.52, 0.76, 0.58), fill=(206, 60, 60) if pen.color != (214, 28, 36) else STEEL, radius=0.4)


def draw_cup(pen: Pen) -> None:
    pen.ring(0.52, 0.26, 1.0, 0.78, thickness=0.10, fill=pen.color)
    pen.shape(0, 0.12, 0.78, 0.12, 0.70, 0.92, 0.08, 0.92, fill=pen.color)
    pen.slice(0.08, 0.78, 0.70, 1, start=0, end=180, fill=pen.color)
    pen.box((0.10, 0.80, 0.68, 0.90), fill=pen.color, outline=False)
    pen.shape(0.10, 0.32, 0.20, 0.32, 0.23, 0.82, 0.15, 0.82, fill=pen.light, outline=False)
    pen.oval((0, 0, 0.78, 0.24), fill=pen.light)
    pen.oval((0.08, 0.06, 0.70, 0.20), fill=(92, 66, 52), outline=False)


def draw_ball(pen: Pen) -> None:
    pen.oval((0, 0, 1, 1), fill=pen.color)
    pen.draw.arc(pen.points((-0.62, 0.05, 0.30, 0.95)), -52, 52, pen.mark, 2 * pen.stroke)
    pen.draw.arc(pen.points((0.70, 0.05, 1.62, 0.95)), 128, 232, pen.mark, 2 * pen.stroke)
    pen.stick(0.5, 0.02, 0.5, 0.98, fill=pen.mark, thickness=0.035)
    pen.stick(0.02, 0.5, 0.98, 0.5, fill=pen.mark, thickness=0.035)


def draw_umbrella(pen: Pen) -> None:
    pen.ring(0.47, 0.80, 0.68, 1.0, thickness=0.06, fill=DARK, start=-10, end=190)
    pen.box((0.47, 0.40, 0.53, 0.92), (0.475, 0, 0.525, 0.1), fill=DARK, outline=False)
    pen.slice(0, 0.05, 1, 1.13, start=180, end=360, fill=pen.color)
    for x in (0, 0.25, 0.5, 0.75):  # the scalloped hem
        pen.slice(x, 0.47, x + 0.25, 0.71, start=0, end=180, fill=pen.color)
        pen.box((x + 0.01, 0.52, x + 0.24, 0.60), fill=pen.color, outline=False)
    for x in (0.25, 0.5, 0.75):
        pen.stick(0.5, 0.06, x, 0.60, fill=pen.line, thickness=0.015)


def draw_bag(pen: Pen) -> None:
    pen.ring(0.26, 0, 0.74, 0.62, thickness=0.08, fill=pen.shade, start=180, end=360)
    pen.shape(0.10, 0.30, 0.90, 0.30, 1, 1, 0, 1, fill=pen.color)
    pen.shape(0.08, 0.30, 0.92, 0.30, 0.86, 0.58, 0.5, 0.70, 0.14, 0.58, fill=pen.light)
    pen.box((0.42, 0.56, 0.58, 0.74), fill=(232, 200, 110) if pen.color != (252, 218, 30) else STEEL, radius=0.2)


DRAWINGS: dict[str, Callable[[Pen], None]] = {
    '소파': draw_sofa, '의자': draw_chair, '탁자': draw_table, '침대': draw_bed, '램프': draw_lamp,
    '텔레비전': draw_television, '냉장고': draw_refrigerator, '화분': draw_plant, '책': draw_book, '시계': draw_clock,
    '창문': draw_window, '액자': draw_frame, '고양이': draw_cat, '강아지': draw_dog, '컵': draw_cup, '공': draw_ball,
    '우산': draw_umbrella, '가방': draw_bag,
}  # fmt: skip


def draw_object(obj: SceneObject, evening: bool) -> tuple[Image.Image, Image.Image]:
    """The image of an object and its mask (mode L, 0..255), both as large as its box."""
    x0, y0, x1, y1 = obj.box
    pen = Pen(x1 - x0, y1 - y0, obj.color.rgb, evening)
    DRAWINGS[obj.kind.name](pen)
    image, mask = pen.image.reduce(SUPERSAMPLE), pen.mask.reduce(SUPERSAMPLE)
    if obj.mirrored and obj.kind.name != '시계':
        image, mask = (layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for layer in (image, mask))
    return image, mask
