"""What stands where: the contents of a Rooms picture, sampled before anything is drawn.

Kind, colour, size and place are drawn independently of each other, so that no word of a question tells its answer.
Lengths are pixels; x grows to the right, y downwards.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from kovilt.rooms.particles import Noun

SHORT_SIDE = 256
# (width : height, weight)
ASPECTS = (((4, 3), 5), ((3, 2), 3), ((16, 9), 2), ((1, 1), 2), ((3, 4), 2))
SIZES = {'작은': 0.28, '큰': 0.47}  # square root of the box's area, as a share of the picture's shorter side
SIZE_JITTER = 0.04
MAX_HIDDEN = 0.10  # of a box may lie under nearer boxes
LEFT, CENTRE, RIGHT = '왼쪽', '가운데', '오른쪽'
SIDES = {LEFT: (0.0, 0.36), CENTRE: (0.44, 0.56), RIGHT: (0.64, 1.0)}  # of the width, where a thing's middle lies
SIDE_SLACK = 0.02
WALL, FLOOR = '벽', '바닥'
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, the last two exclusive


@dataclass(frozen=True)
class ObjectKind:
    """A kind of thing: Korean and English name, width : height, what counts it, where it may be."""

    name: Noun
    english: str
    aspect: float
    counter: str = '개'
    wall: bool = False
    support: float = 0.0  # share of the height, from the top, at which smaller things stand on it; 0 = nowhere
    portable: bool = False  # may stand on a support
    alive: bool = False


KINDS = {
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
    """A colour: its noun (빨간색), its attribute (빨간), English, and the RGB of a body painted with it."""

    name: Noun
    attribute: str
    english: str
    rgb: tuple[int, int, int]

    @property
    def that_is(self) -> str:
        """빨간, 갈색인: as it stands before 것."""
        return f'{self.name}인' if self.attribute == self.name else self.attribute


COLORS = {
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
class Thing:
    """One object: `box` (x0, y0, x1, y1) holds its whole silhouette; `zone` is 벽, 바닥, or the kind it stands on."""

    kind: ObjectKind
    color: Color
    size: str
    zone: str = FLOOR
    box: Box = (0, 0, 0, 0)
    mirrored: bool = False

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def area(self) -> int:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. `things` are in drawing order, the nearest last."""

    width: int
    height: int
    horizon: int  # where the wall meets the floor
    room: Noun
    evening: bool
    things: tuple[Thing, ...]

    def side(self, thing: Thing) -> str | None:
        """왼쪽, 가운데 or 오른쪽; None where people could disagree."""
        x = thing.x / self.width
        for name, (low, high) in SIDES.items():
            if low - SIDE_SLACK <= x <= high + SIDE_SLACK:
                return name
        return None

    def count(self, kind: ObjectKind) -> int:
        return sum(thing.kind is kind for thing in self.things)


def seeded(*key: object) -> random.Random:
    """A generator that depends on the key alone, not on the process or the machine."""
    digest = hashlib.sha256('\0'.join(map(str, key)).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], 'big'))


def sample_scene(seed: int, split: str, index: int, *, alone: float = 0.0) -> Scene:
    """The scene of picture `index` of a split; with the chance `alone` it holds one thing only."""
    rng = seeded('kovilt rooms scene', seed, split, index)
    [(across, down)] = rng.choices([aspect for aspect, _ in ASPECTS], [weight for _, weight in ASPECTS])
    width = round(SHORT_SIDE * max(1, across / down))
    height = round(SHORT_SIDE * max(1, down / across))
    things = sample_things(rng, alone=alone > 0 and rng.random() < alone)
    while True:
        horizon = round(height * rng.uniform(0.52, 0.62))
        placed = place(rng, things, width, height, horizon)
        if placed is not None:
            break
        large = [i for i, thing in enumerate(things) if thing.size == '큰' and not supports(things, thing)]
        if large:  # too full: make one thing smaller and try again
            i = rng.choice(large)
            things[i] = replace(things[i], size='작은')
    order = sorted(placed, key=lambda thing: depth(thing, placed))
    evening = rng.random() < 0.4
    return Scene(width, height, horizon, room_of(placed), evening, tuple(order))


def sample_things(rng: random.Random, *, alone: bool = False) -> list[Thing]:
    """Two to five things: one kind one to four times (what is counted), the others once each; or one thing `alone`."""
    repeats = 1 if alone else rng.randint(1, 4)
    others = 0 if alone else rng.randint(*{1: (1, 4), 2: (1, 2), 3: (1, 2), 4: (1, 1)}[repeats])
    kinds = rng.sample(list(KINDS.values()), 1 + others)
    group_color = rng.choice(list(COLORS.values())) if rng.random() < 0.4 else None
    large_share = {1: 0.6, 2: 0.6, 3: 0.55, 4: 0.5, 5: 0.42}[repeats + others]
    things = []
    for kind in [kinds[0]] * (repeats - 1) + kinds:
        color = rng.choice(list(COLORS.values()))
        if kind is kinds[0] and group_color:
            color = group_color
        size = '큰' if rng.random() < large_share else '작은'
        things.append(Thing(kind, color, size, WALL if kind.wall else FLOOR, mirrored=rng.random() < 0.5))
    # Something small may stand on a large table or bed.
    holders = [t for t in things if t.kind.support and sum(u.kind is t.kind for u in things) == 1]
    guests = [i for i, t in enumerate(things) if t.kind.portable]
    if holders and guests and rng.random() < 0.7:
        i, holder = rng.choice(guests), rng.choice(holders)
        things[i] = replace(things[i], size='작은', zone=holder.kind.name)
        things[things.index(holder)] = replace(holder, size='큰')
    return things


def supports(things: list[Thing], thing: Thing) -> bool:
    """Whether something stands on a thing."""
    return any(other.zone == thing.kind.name for other in things)


def place(rng: random.Random, things: list[Thing], width: int, height: int, horizon: int) -> list[Thing] | None:
    """The things with boxes, by trial; None when they do not fit."""
    # Guests go after their holders, large things before small ones.
    order = sorted(range(len(things)), key=lambda i: (things[i].zone in KINDS, things[i].size != '큰', i))
    placed: list[Thing] = []
    for i in order:
        for _ in range(40):
            thing = replace(things[i], box=propose(rng, things[i], placed, width, height, horizon))
            if inside(thing.box, width, height) and fits(thing, placed):
                placed.append(thing)
                break
        else:
            return None
    return placed


def propose(rng: random.Random, thing: Thing, placed: list[Thing], width: int, height: int, horizon: int) -> Box:
    """A place for a thing that its zone allows: on its holder, on the wall, or standing on the floor."""
    side = SIZES[thing.size] * min(width, height) * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
    w, h = round(side * thing.kind.aspect**0.5), round(side / thing.kind.aspect**0.5)
    margin = 4  # pixels to the picture's border
    holder = next((other for other in placed if other.kind.name == thing.zone), None)
    if holder is not None:
        x0, y0, x1, y1 = holder.box
        pillow = round((0.30 if holder.kind.name == '침대' else 0.05) * (x1 - x0))
        end = round(0.05 * (x1 - x0))
        left, right = (x0 + end, x1 - pillow) if holder.mirrored else (x0 + pillow, x1 - end)
        x = rng.randint(left, max(left, right - w))
        base = round(y0 + holder.kind.support * (y1 - y0))
        return x, base - h, x + w, base
    low, high = SIDES[rng.choice(list(SIDES))]
    first, last = max(low * width, margin + w / 2), min(high * width, width - margin - w / 2)
    x = round(rng.uniform(first, max(first, last)) - w / 2)
    if thing.kind.wall:
        base = round(rng.uniform(margin + h, max(margin + h, horizon - 0.05 * height)))
    else:
        base = round(rng.uniform(max(horizon + 0.05 * height, margin + h), height - margin))
    return x, base - h, x + w, base


def inside(box: Box, width: int, height: int) -> bool:
    """Whether a box lies in the picture."""
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def depth(thing: Thing, things: list[Thing]) -> tuple[int, int, bool]:
    """Sorts from far to near: the wall, then the floor by where things stand, a guest right after its holder."""
    if thing.zone == WALL:
        return 0, thing.box[3], False
    holder = next((other for other in things if other.kind.name == thing.zone), None)
    return 1, (holder or thing).box[3], holder is not None


def overlap(a: Box, b: Box) -> int:
    """Area that two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def hides(front: Thing, back: Thing, things: list[Thing]) -> int:
    """Area of one box under another's that is nearer; what stands on a thing does not hide it."""
    if front is back or front.zone == back.kind.name or depth(front, things) < depth(back, things):
        return 0
    return overlap(front.box, back.box)


def hidden_share(thing: Thing, things: list[Thing]) -> float:
    """Share of a box that lies under nearer boxes."""
    return sum(hides(other, thing, things) for other in things) / thing.area


def fits(thing: Thing, placed: list[Thing]) -> bool:
    """Whether adding a thing leaves every thing visible enough."""
    things = [*placed, thing]
    return all(hidden_share(each, things) <= MAX_HIDDEN for each in things)


def room_of(things: list[Thing]) -> Noun:
    """The room that the furniture tells, so that a caption may name it."""
    names = {thing.kind.name for thing in things}
    if '침대' in names:
        return Noun('침실')
    if '냉장고' in names:
        return Noun('주방')
    if names & {'소파', '텔레비전'}:
        return Noun('거실')
    if '책' in names:
        return Noun('서재')
    return Noun('방')
