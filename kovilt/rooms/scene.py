"""Samples the contents of a Rooms image before it is drawn: which objects there are, and where.

Kind, color, size and place are sampled independently, so that no word of a question gives away its answer.
Lengths are pixels; x grows to the right, y downwards.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kovilt.rooms.particles import Noun

SHORT_SIDE = 256
ASPECTS = {(4, 3): 5, (3, 2): 3, (16, 9): 2, (1, 1): 2, (3, 4): 2}  # width : height, and its weight
SIZES = {'작은': 0.28, '큰': 0.47}  # square root of the box's area, as a share of the image's shorter side
SIZE_JITTER = 0.04
MAX_HIDDEN = 0.10  # share of a box that nearer boxes may cover
LEFT, CENTER, RIGHT = '왼쪽', '가운데', '오른쪽'
SIDES = {LEFT: (0.0, 0.36), CENTER: (0.44, 0.56), RIGHT: (0.64, 1.0)}  # of the width, for an object's middle
SIDE_SLACK = 0.02
MIN_DISTANCE = 0.10  # of the width: middles closer than this are neither left nor right of each other
MARGIN = 4  # pixels between an object and the border of the image
WALL, FLOOR = '벽', '바닥'
ROOMS = {
    '침대': '침실',
    '냉장고': '주방',
    '소파': '거실',
    '텔레비전': '거실',
    '책': '서재',
}  # by the first kind present
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, the last two exclusive


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object: Korean and English name, width : height, its counter (개, 마리, ...), where it may stand."""

    name: Noun
    english: str
    aspect: float
    counter: str = '개'
    wall: bool = False  # hangs on the wall
    support: float = 0.0  # share of the height, from the top, at which smaller objects stand on it; 0 = nowhere
    portable: bool = False  # may stand on a support
    alive: bool = False


KINDS: dict[str, ObjectKind] = {
    kind.name: kind
    for kind in (
        ObjectKind(Noun('소파'), 'sofa', 1.5),
        ObjectKind(Noun('의자'), 'chair', 0.68),
        ObjectKind(Noun('탁자'), 'table', 1.45, support=0.10),
        ObjectKind(Noun('침대'), 'bed', 1.65, support=0.46),
        ObjectKind(Noun('램프'), 'lamp', 0.68, portable=True),
        ObjectKind(Noun('텔레비전'), 'television', 1.15, '대'),
        ObjectKind(Noun('냉장고'), 'refrigerator', 0.60, '대'),
        ObjectKind(Noun('화분'), 'potted plant', 0.80, portable=True),
        ObjectKind(Noun('책'), 'book', 0.84, '권', portable=True),
        ObjectKind(Noun('시계'), 'clock', 1.0, wall=True),
        ObjectKind(Noun('창문'), 'window', 1.4, wall=True),
        ObjectKind(Noun('액자'), 'picture frame', 0.95, wall=True),
        ObjectKind(Noun('고양이'), 'cat', 0.80, '마리', portable=True, alive=True),
        ObjectKind(Noun('강아지'), 'dog', 1.25, '마리', alive=True),
        ObjectKind(Noun('컵'), 'cup', 1.15, portable=True),
        ObjectKind(Noun('공'), 'ball', 1.0, portable=True),
        ObjectKind(Noun('우산'), 'umbrella', 1.05),
        ObjectKind(Noun('가방'), 'bag', 0.95, portable=True),
    )
}


@dataclass(frozen=True)
class Color:
    """A color: its noun (빨간색), its attribute (빨간), English, and its RGB."""

    name: Noun
    attribute: str
    english: str
    rgb: tuple[int, int, int]

    @property
    def that_is(self) -> str:
        """빨간, 갈색인: as it stands before 것."""
        return f'{self.name}인' if self.attribute == self.name else self.attribute


COLORS: dict[str, Color] = {
    color.name: color
    for color in (
        Color(Noun('빨간색'), '빨간', 'red', (214, 28, 36)),
        Color(Noun('주황색'), '주황색', 'orange', (250, 132, 14)),
        Color(Noun('노란색'), '노란', 'yellow', (252, 218, 30)),
        Color(Noun('초록색'), '초록색', 'green', (30, 152, 62)),
        Color(Noun('파란색'), '파란', 'blue', (30, 78, 216)),
        Color(Noun('보라색'), '보라색', 'purple', (132, 46, 176)),
        Color(Noun('분홍색'), '분홍색', 'pink', (250, 134, 186)),
        Color(Noun('갈색'), '갈색', 'brown', (122, 72, 34)),
        Color(Noun('검은색'), '검은', 'black', (34, 34, 38)),
        Color(Noun('흰색'), '하얀', 'white', (250, 250, 248)),
    )
}


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene: `box` holds its whole silhouette; `zone` is 벽, 바닥, or the kind it stands on."""

    kind: ObjectKind
    color: Color
    size: str
    zone: str = FLOOR
    box: Box = (0, 0, 0, 0)
    mirrored: bool = False

    @property
    def x(self) -> float:
        """The middle of the box, in pixels."""
        return (self.box[0] + self.box[2]) / 2

    @property
    def area(self) -> int:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def describe(self, *, color: bool = True, size: bool = False) -> Noun:
        """작은 빨간 소파"""
        return Noun(' '.join([self.size] * size + [self.color.attribute] * color + [self.kind.name]))


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn. `objects` are in drawing order, the nearest last."""

    width: int
    height: int
    horizon: int  # where the wall meets the floor
    room: Noun
    evening: bool
    objects: tuple[SceneObject, ...]

    def side(self, obj: SceneObject) -> str | None:
        """왼쪽, 가운데 or 오른쪽; None where people could disagree."""
        x = obj.x / self.width
        for name, (low, high) in SIDES.items():
            if low - SIDE_SLACK <= x <= high + SIDE_SLACK:
                return name
        return None

    def is_right_of(self, a: SceneObject, b: SceneObject) -> bool | None:
        """Whether a is to the right of b; None when they are neither left nor right of each other."""
        distance = (a.x - b.x) / self.width
        return None if abs(distance) < MIN_DISTANCE else distance > 0

    def count(self, kind: ObjectKind) -> int:
        """How many objects are of a kind."""
        return sum(obj.kind is kind for obj in self.objects)


def kind_names(objects: Iterable[SceneObject]) -> list[Noun]:
    """The names of the kinds among objects, sorted: the order of a set is not the same in every process."""
    return sorted({obj.kind.name for obj in objects})


def seeded_rng(*key: object) -> random.Random:
    """A generator that depends on the key alone, not on the process or the machine."""
    digest = hashlib.sha256('\0'.join(map(str, key)).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], 'big'))


def sample_scene(seed: int, split: str, index: int, *, alone: float = 0.0) -> Scene:
    """The scene of image `index` of a split; with probability `alone` it holds a single object."""
    rng = seeded_rng('kovilt rooms scene', seed, split, index)
    [(across, down)] = rng.choices(list(ASPECTS), list(ASPECTS.values()))
    width = round(SHORT_SIDE * max(1, across / down))
    height = round(SHORT_SIDE * max(1, down / across))
    objects = sample_objects(rng, alone=alone > 0 and rng.random() < alone)
    while True:
        horizon = round(height * rng.uniform(0.52, 0.62))
        placed = place_objects(rng, objects, width, height, horizon)
        if placed is not None:
            break
        holders = {obj.zone for obj in objects}
        large = [i for i, obj in enumerate(objects) if obj.size == '큰' and obj.kind.name not in holders]
        if large:  # no space: make one object smaller and try again
            i = rng.choice(large)
            objects[i] = replace(objects[i], size='작은')
    order = sorted(placed, key=lambda obj: depth(obj, placed))
    evening = rng.random() < 0.4
    return Scene(width, height, horizon, room_of(placed), evening, tuple(order))


def sample_objects(rng: random.Random, *, alone: bool = False) -> list[SceneObject]:
    """Two to five objects: one kind one to four times (it is counted), others once each; or a single object `alone`."""
    repeats = 1 if alone else rng.randint(1, 4)
    others = 0 if alone else rng.randint(*{1: (1, 4), 2: (1, 2), 3: (1, 2), 4: (1, 1)}[repeats])
    kinds = rng.sample(list(KINDS.values()), 1 + others)
    group_color = rng.choice(list(COLORS.values())) if rng.random() < 0.4 else None
    large_share = {1: 0.6, 2: 0.6, 3: 0.55, 4: 0.5, 5: 0.42}[repeats + others]
    objects = []
    for kind in [kinds[0]] * (repeats - 1) + kinds:
        color = rng.choice(list(COLORS.values()))
        if kind is kinds[0] and group_color:
            color = group_color
        size = '큰' if rng.random() < large_share else '작은'
        objects.append(SceneObject(kind, color, size, WALL if kind.wall else FLOOR, mirrored=rng.random() < 0.5))
    # A small object may stand on a large table or bed.
    holders = [obj for obj in objects if obj.kind.support and sum(other.kind is obj.kind for other in objects) == 1]
    guests = [i for i, obj in enumerate(objects) if obj.kind.portable]
    if holders and guests and rng.random() < 0.7:
        i, holder = rng.choice(guests), rng.choice(holders)
        objects[i] = replace(objects[i], size='작은', zone=holder.kind.name)
        objects[objects.index(holder)] = replace(holder, size='큰')
    return objects


def place_objects(
    rng: random.Random, objects: list[SceneObject], width: int, height: int, horizon: int
) -> list[SceneObject] | None:
    """The objects with boxes, by rejection sampling; None when they do not fit."""
    # An object that stands on another comes after it, large objects before small ones.
    order = sorted(range(len(objects)), key=lambda i: (objects[i].zone in KINDS, objects[i].size != '큰', i))
    placed: list[SceneObject] = []
    for i in order:
        for _ in range(40):
            obj = replace(objects[i], box=sample_box(rng, objects[i], placed, width, height, horizon))
            x0, y0, x1, y1 = obj.box
            together = [*placed, obj]
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                continue
            if all(hidden_share(each, together) <= MAX_HIDDEN for each in together):
                placed = together
                break
        else:
            return None
    return placed


def sample_box(
    rng: random.Random, obj: SceneObject, placed: list[SceneObject], width: int, height: int, horizon: int
) -> Box:
    """A box that the zone of an object allows: on its holder, on the wall, or standing on the floor."""
    side = SIZES[obj.size] * min(width, height) * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
    w, h = round(side * obj.kind.aspect**0.5), round(side / obj.kind.aspect**0.5)
    holder = next((other for other in placed if other.kind.name == obj.zone), None)
    if holder is not None:
        x0, y0, x1, y1 = holder.box
        pillow = round((0.30 if holder.kind.name == '침대' else 0.05) * (x1 - x0))
        end = round(0.05 * (x1 - x0))
        left, right = (x0 + end, x1 - pillow) if holder.mirrored else (x0 + pillow, x1 - end)
        x = rng.randint(left, max(left, right - w))
        base = round(y0 + holder.kind.support * (y1 - y0))
        return x, base - h, x + w, base
    low, high = SIDES[rng.choice(list(SIDES))]
    first, last = max(low * width, MARGIN + w / 2), min(high * width, width - MARGIN - w / 2)
    x = round(rng.uniform(first, max(first, last)) - w / 2)
    if obj.kind.wall:
        base = round(rng.uniform(MARGIN + h, max(MARGIN + h, horizon - 0.05 * height)))
    else:
        base = round(rng.uniform(max(horizon + 0.05 * height, MARGIN + h), height - MARGIN))
    return x, base - h, x + w, base


def depth(obj: SceneObject, objects: list[SceneObject]) -> tuple[int, int, bool]:
    """Sort key, far to near: the wall, then the floor by lower edges; what stands on an object comes right after it."""
    if obj.zone == WALL:
        return 0, obj.box[3], False
    holder = next((other for other in objects if other.kind.name == obj.zone), None)
    return 1, (holder or obj).box[3], holder is not None


def covered_area(front: SceneObject, back: SceneObject, objects: list[SceneObject]) -> int:
    """Area of `back` that the nearer box `front` covers; what stands on an object does not hide it."""
    if front is back or front.zone == back.kind.name or depth(front, objects) < depth(back, objects):
        return 0
    a, b = front.box, back.box
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def hidden_share(obj: SceneObject, objects: list[SceneObject]) -> float:
    """Share of a box that nearer boxes cover."""
    return sum(covered_area(other, obj, objects) for other in objects) / obj.area


def room_of(objects: list[SceneObject]) -> Noun:
    """The room that the furniture implies, so that a caption may name it."""
    names = {obj.kind.name for obj in objects}
    return Noun(next((room for name, room in ROOMS.items() if name in names), '방'))
