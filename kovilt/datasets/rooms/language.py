"""Korean captions and questions about a scene, every word of which the picture decides.

A question is asked only when its answer is the same for everyone who looks: middles in the border between 왼쪽 and
가운데 are passed over, sizes are compared only between 큰 and 작은, a thing is named so that one thing fits the name. Answers are
예/아니요, a colour's noun (빨간색), a bare digit (whatever counts the thing: 개, 마리, 권, 대), 왼쪽/가운데/오른쪽, or a kind's name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kovilt.datasets.rooms.korean import Noun
from kovilt.datasets.rooms.scene import (
    CENTRE,
    COLORS,
    FLOOR,
    KINDS,
    LEFT,
    RIGHT,
    WALL,
    Color,
    Kind,
    Scene,
    Thing,
    seeded,
)

ANSWER_TYPES = ('존재', '색', '개수', '위치', '관계', '비교', '종류')
CAPTIONS_PER_PICTURE = 5
APART = 0.10  # of the width: middles closer than this are neither left nor right of each other
NUMERALS = {1: ('한', 'one'), 2: ('두', 'two'), 3: ('세', 'three'), 4: ('네', 'four')}
ENGLISH_SIDES = {LEFT: 'on the left', CENTRE: 'in the middle', RIGHT: 'on the right'}
ENGLISH_ROOMS = {'침실': 'bedroom', '주방': 'kitchen', '거실': 'living room', '서재': 'study', '방': 'room'}


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    answer_type: str


# ---------------------------------------------------------------------------------------------------- naming things
def described(thing: Thing, *, size: bool = False, color: bool = True) -> Noun:
    """작은 빨간 소파"""
    words = [thing.size] * size + [thing.color.attribute] * color + [thing.kind.name]
    return Noun(' '.join(words))


def name(rng: random.Random, scene: Scene, thing: Thing, *, color: bool = True) -> Noun | None:
    """A phrase that fits `thing` and nothing else in the scene; None when there is none. `color=False` keeps its
    colour secret."""
    alike = [other for other in scene.things if other.kind is thing.kind]
    if len(alike) == 1:
        draw = rng.random()
        return described(thing, size=draw < 0.15, color=color and 0.15 <= draw < 0.45)
    if color and sum(other.color is thing.color for other in alike) == 1:
        return described(thing)
    if sum(other.size == thing.size for other in alike) == 1:
        return described(thing, size=True, color=False)
    side = scene.band(thing)
    if not color and side and all(scene.band(other) not in (side, None) for other in alike if other is not thing):
        return Noun(f'{side}에 있는 {thing.kind.name}')
    return None


def is_right(scene: Scene, a: Thing, b: Thing) -> bool | None:
    """Whether a is to the right of b; None when they are neither left nor right of each other."""
    distance = (a.x - b.x) / scene.width
    return None if abs(distance) < APART else distance > 0


# -------------------------------------------------------------------------------------------------------- questions
def ask_existence(rng: random.Random, scene: Scene, answer: str) -> Question:
    """Half of the questions name a colour; there, a no is about a kind that is present in another colour."""
    if rng.random() < 0.5:
        kinds = {thing.kind.name for thing in scene.things}
        pool = sorted(kinds if answer == '예' else set(KINDS) - kinds)
        asked = Noun(rng.choice(pool))
    else:
        kind = rng.choice(sorted({thing.kind.name for thing in scene.things}))
        present = {thing.color.name for thing in scene.things if thing.kind.name == kind}
        if answer == '예':
            pool = sorted(present)
        else:  # most often a colour that something else has
            elsewhere = {thing.color.name for thing in scene.things} - present
            pool = sorted(elsewhere if elsewhere and rng.random() < 0.6 else set(COLORS) - present)
        asked = Noun(f'{COLORS[rng.choice(pool)].attribute} {kind}')
    text = rng.choice(
        (
            f'{asked:이} 있나요?',
            f'{asked:이} 있습니까?',
            f'{asked:이} 있어?',
            f'{asked:이} 보이나요?',
            f'사진에 {asked:이} 있나요?',
            f'사진 속에 {asked:이} 보입니까?',
            f'여기에 {asked:이} 있어요?',
            f'이 방에 {asked:이} 있어',
            f'사진에서 {asked:을} 볼 수 있나요?',
        )
    )
    return Question(text, answer, '존재')


def ask_color(rng: random.Random, scene: Scene) -> Question | None:
    for thing in rng.sample(scene.things, len(scene.things)):
        asked = name(rng, scene, thing, color=False)
        if asked:
            text = rng.choice(
                (
                    f'{asked:은} 무슨 색인가요?',
                    f'{asked:은} 무슨 색입니까?',
                    f'{asked:은} 무슨 색이야?',
                    f'{asked:은} 어떤 색이에요?',
                    f'{asked}의 색은 무엇인가요?',
                    f'{asked}의 색깔은 무엇입니까?',
                    f'{asked}의 색을 말해 줘',
                    f'사진에 있는 {asked:은} 무슨 색인가요?',
                )
            )
            return Question(text, thing.color.name, '색')
    return None


def ask_count(rng: random.Random, scene: Scene) -> Question:
    """About the kind that there is most of: it was drawn one to four times with equal chance."""
    kinds = {thing.kind.name: thing.kind for thing in scene.things}
    most = max(scene.count(kind) for kind in kinds.values())
    kind = rng.choice([kind for kind in kinds.values() if scene.count(kind) == most])
    asked, unit = kind.name, kind.counter
    text = rng.choice(
        (
            f'{asked:이} 몇 {unit} 있나요?',
            f'{asked:은} 모두 몇 {unit}입니까?' if unit not in ('대', '마리') else f'{asked:은} 모두 몇 {unit}입니까?',
            f'{asked:은} 몇 {unit}인가요?',
            f'{asked:이} 몇 {unit}야?',
            f'사진에 {asked:이} 몇 {unit} 보이나요?',
            f'{asked:이} 모두 몇 {unit} 있습니까?',
            f'{asked:이} 몇 {unit}인지 세어 줘',
        )
    )
    return Question(text, str(most), '개수')


def ask_position(rng: random.Random, scene: Scene) -> Question | None:
    sides = [LEFT, CENTRE, RIGHT]
    for side in rng.sample(sides, 3):
        for thing in rng.sample(scene.things, len(scene.things)):
            asked = name(rng, scene, thing) if scene.band(thing) == side else None
            if asked:
                a, b, c = (Noun(word) for word in rng.sample(sides, 3))
                text = rng.choice(
                    (
                        f'{asked:은} 사진의 어느 쪽에 있나요?',
                        f'{asked:은} 사진 어디에 있습니까?',
                        f'{asked:은} 어느 쪽에 있어?',
                        f'{asked}의 위치는 어디인가요?',
                        f'{asked:은} {a}, {b}, {c} 중 어디에 있나요?',
                        f'{asked:이} 있는 곳은 {a}, {b}, {c} 중 어디입니까?',
                        f'{asked:이} 어느 쪽에 보이나요?',
                    )
                )
                return Question(text, side, '위치')
    return None


def ask_relation(rng: random.Random, scene: Scene) -> Question | None:
    ways = [ask_what_is_beside, ask_what_is_beside, ask_which_side]
    rng.shuffle(ways)
    for way in [ask_what_is_on, *ways] if rng.random() < 0.7 else ways:
        question = way(rng, scene)
        if question:
            return question
    return None


def ask_what_is_on(rng: random.Random, scene: Scene) -> Question | None:
    for thing in scene.things:
        if thing.zone in KINDS:
            asked = Noun(thing.zone)
            text = rng.choice(
                (
                    f'{asked} 위에 있는 것은 무엇인가요?',
                    f'{asked} 위에 무엇이 놓여 있습니까?',
                    f'{asked} 위에는 뭐가 있어?',
                    f'무엇이 {asked} 위에 있나요?',
                )
            )
            return Question(text, thing.kind.name, '관계')
    return None


def ask_what_is_beside(rng: random.Random, scene: Scene) -> Question | None:
    """What is left or right of a thing, asked when things of only one kind are."""
    for thing in rng.sample(scene.things, len(scene.things)):
        places = {other: is_right(scene, other, thing) for other in scene.things if other is not thing}
        for side in rng.sample((LEFT, RIGHT), 2):
            there = {other.kind.name for other, right in places.items() if right is not None and right == (side == RIGHT)}
            unclear = {other.kind.name for other, right in places.items() if right is None}
            asked = name(rng, scene, thing)
            if asked and len(there) == 1 and not unclear - there and there != {thing.kind.name}:
                text = rng.choice(
                    (
                        f'{asked}의 {side}에 있는 것은 무엇인가요?',
                        f'{asked} {side}에는 무엇이 있습니까?',
                        f'{asked} {side}에 뭐가 있어?',
                        f'{asked:을} 기준으로 {side}에 있는 것은 무엇입니까?',
                        f'{asked}보다 {side}에 있는 것은 무엇인가요?',
                    )
                )
                return Question(text, there.pop(), '관계')
    return None


def ask_which_side(rng: random.Random, scene: Scene) -> Question | None:
    for a, b in pairs(rng, scene):
        right = is_right(scene, a, b)
        first, second = name(rng, scene, a), name(rng, scene, b)
        if right is not None and first and second:
            text = rng.choice(
                (
                    f'{first:은} {second}의 어느 쪽에 있나요?',
                    f'{first:은} {second}의 왼쪽과 오른쪽 중 어디에 있습니까?',
                    f'{first:은} {second}의 오른쪽과 왼쪽 중 어디에 있어?',
                    f'{second:을} 기준으로 {first:은} 어느 쪽에 있습니까?',
                )
            )
            return Question(text, RIGHT if right else LEFT, '관계')
    return None


def pairs(rng: random.Random, scene: Scene) -> list[tuple[Thing, Thing]]:
    """Pairs of things of different kinds, in both orders, shuffled."""
    found = [(a, b) for a in scene.things for b in scene.things if a.kind is not b.kind]
    return rng.sample(found, len(found))


def ask_comparison(rng: random.Random, scene: Scene) -> Question | None:
    """Which of two is larger, smaller, further left or right, or which kind there is more or less of."""
    for way in rng.sample(('size', 'size', 'side', 'side', 'number'), 5):
        for a, b in pairs(rng, scene):
            if way == 'number':
                first, second = a.kind.name, b.kind.name
                difference = scene.count(a.kind) - scene.count(b.kind)
                words = rng.choice((('많은', '많나요', '많아', 1), ('적은', '적나요', '적어', -1)))
            else:
                first, second = name(rng, scene, a), name(rng, scene, b)
                if not first or not second:
                    continue
                if way == 'size':
                    difference = (a.size == '큰') - (b.size == '큰')
                    words = rng.choice((('큰', '큰가요', '커', 1), ('작은', '작은가요', '작아', -1)))
                else:
                    right = is_right(scene, a, b)
                    difference = 0 if right is None else 1 if right else -1
                    words = rng.choice(
                        (
                            (f'{RIGHT}에 있는', f'{RIGHT}에 있나요', f'{RIGHT}에 있어', 1),
                            (f'{LEFT}에 있는', f'{LEFT}에 있나요', f'{LEFT}에 있어', -1),
                        )
                    )
            if difference:
                which, polite, plain, sign = words
                text = rng.choice(
                    (
                        f'{first:과} {second} 중에서 더 {which} 것은 무엇인가요?',
                        f'{first:과} {second} 중 어느 것이 더 {polite}?',
                        f'{first:과} {second} 가운데 더 {which} 것은 무엇입니까?',
                        f'{first}하고 {second} 중에 뭐가 더 {plain}?',
                        f'더 {which} 것은 {first:과} {second} 중 무엇인가요?',
                    )
                )
                return Question(text, (a if difference * sign > 0 else b).kind.name, '비교')
    return None


def ask_kind(rng: random.Random, scene: Scene) -> Question | None:
    for way in rng.sample((ask_kind_of_color, ask_kind_of_color, ask_extreme, ask_kind_on_wall), 4):
        question = way(rng, scene)
        if question:
            return question
    return None


def ask_kind_of_color(rng: random.Random, scene: Scene) -> Question | None:
    for thing in rng.sample(scene.things, len(scene.things)):
        kinds = {other.kind.name for other in scene.things if other.color is thing.color}
        if len(kinds) == 1:
            color = thing.color
            text = rng.choice(
                (
                    f'{color.attribute} 것은 무엇인가요?',
                    f'{color.name}인 것은 무엇입니까?',
                    f'무엇이 {color.name}인가요?',
                    f'뭐가 {color.name}이야?',
                    f'사진에서 {color.name}인 것은 무엇인가요?',
                    f'{color.name:으로} 보이는 것은 무엇인가요?',
                )
            )
            return Question(text, thing.kind.name, '종류')
    return None


def ask_kind_on_wall(rng: random.Random, scene: Scene) -> Question | None:
    kinds = {thing.kind.name for thing in scene.things if thing.zone == WALL}
    if len(kinds) != 1:
        return None
    text = rng.choice(('벽에 있는 것은 무엇인가요?', '벽에는 무엇이 있습니까?', '벽에 뭐가 있어?', '벽에서 볼 수 있는 것은 무엇입니까?'))
    return Question(text, kinds.pop(), '종류')


def ask_extreme(rng: random.Random, scene: Scene) -> Question | None:
    """The leftmost, the rightmost, the only large one, the only small one."""
    things = scene.things
    for way in rng.sample((LEFT, RIGHT, '큰', '작은'), 4):
        if way in (LEFT, RIGHT):
            outer = max(things, key=lambda thing: thing.x if way == RIGHT else -thing.x)
            clear = all(is_right(scene, outer, other) is (way == RIGHT) for other in things if other.kind is not outer.kind)
            phrases = (f'맨 {way}에 있는 것은 무엇인가요?', f'가장 {way}에 있는 것은 무엇입니까?', f'제일 {way}에 뭐가 있어?')
        else:
            outer = next((thing for thing in things if thing.size == way), None)
            clear = outer is not None and all((other.size == way) <= (other.kind is outer.kind) for other in things)
            phrases = (f'가장 {way} 것은 무엇인가요?', f'제일 {way} 것은 무엇입니까?', f'사진에서 가장 {way} 것은 뭐야?')
        if clear:
            return Question(rng.choice(phrases), outer.kind.name, '종류')
    return None


ASKERS: tuple[Callable[[random.Random, Scene], Question | None], ...] = (
    lambda rng, scene: ask_existence(rng, scene, '예'),
    lambda rng, scene: ask_existence(rng, scene, '아니요'),
    ask_color,
    ask_count,
    ask_position,
    ask_relation,
    ask_comparison,
    ask_kind,
)


def questions(scene: Scene, seed: int, split: str, index: int) -> list[Question]:
    """Six to eight questions: a yes, a no, and one of each other type that has a clear answer here."""
    rng = seeded('kovilt rooms questions', seed, split, index)
    asked = [question for ask in ASKERS if (question := ask(rng, scene))]
    return rng.sample(asked, len(asked))


# --------------------------------------------------------------------------------------------------------- captions
def english(thing: Thing, *, size: bool = False) -> str:
    words = [{'큰': 'large', '작은': 'small'}[thing.size]] * size + [thing.color.english, thing.kind.english]
    return with_article(' '.join(words))


def with_article(words: str) -> str:
    return f'{"an" if words[0] in "aeiou" else "a"} {words}'


def be_there(thing: Thing, ending: str) -> str:
    """The verb for how a thing is there, e.g. 걸려 있다 on a wall; `ending` is 다 or 고."""
    if thing.kind.alive:
        return f'앉아 있{ending}' if thing.kind.name == '고양이' else f'서 있{ending}'
    if thing.zone == WALL and thing.kind.name != '창문':
        return f'걸려 있{ending}'
    return f'있{ending}' if thing.zone == WALL else f'놓여 있{ending}'


def where(scene: Scene, thing: Thing) -> tuple[str, str]:
    """A true adverbial of place, Korean and English: the side when it is clear, else what the thing is on."""
    side = scene.band(thing)
    if side:
        return f'{side}에', ENGLISH_SIDES[side]
    return on_what(thing)


def on_what(thing: Thing) -> tuple[str, str]:
    if thing.zone == WALL:
        return '벽에', 'on the wall'
    if thing.zone == FLOOR:
        return '바닥에', 'on the floor'
    return f'{thing.zone} 위에', f'on the {KINDS[thing.zone].english}'


def tell_places(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str]:
    size = rng.random() < 0.6
    first, second = described(a, size=size), described(b, size=size)
    (place_a, at_a), (place_b, at_b) = where(scene, a), where(scene, b)
    room = f'{scene.room} ' if rng.random() < 0.5 and scene.band(a) else ''
    if place_a == place_b:
        korean = f'{room}{place_a} {first:과} {second:이} 있다.'
        return korean, f'{english(a, size=size)} and {english(b, size=size)} are {at_a}.'
    korean = f'{room}{place_a} {first:이} {be_there(a, "고")} {place_b} {second:이} {be_there(b, "다")}.'
    return korean, f'{english(a, size=size)} is {at_a} and {english(b, size=size)} is {at_b}.'


def tell_beside(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str] | None:
    right = is_right(scene, b, a)
    if right is None:
        return None
    side, english_side = (RIGHT, 'right') if right else (LEFT, 'left')
    size = rng.random() < 0.4
    first, second = described(a), described(b, size=size)
    korean = rng.choice(
        (
            f'{first} {side}에 {second:이} {be_there(b, "다")}.',
            f'{second:은} {first}의 {side}에 {be_there(b, "다")}.',
            f'{scene.room}에 {first:이} {be_there(a, "고")} 그 {side}에 {second:이} 보인다.',
        )
    )
    return korean, f'{english(b, size=size)} is to the {english_side} of {english(a)}.'


def tell_zones(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str] | None:
    (place_a, at_a), (place_b, at_b) = on_what(a), on_what(b)
    if place_a == place_b:
        return None
    first, second = described(a, size=rng.random() < 0.3), described(b)
    korean = f'{place_a}는 {first:이} {be_there(a, "고")} {place_b}는 {second:이} {be_there(b, "다")}.'
    return korean, f'{english(a)} is {at_a} and {english(b)} is {at_b}.'


def tell_colors(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str] | None:
    if scene.count(a.kind) > 1 or scene.count(b.kind) > 1 or a.kind is b.kind:
        return None
    first, second = described(a, color=False), described(b, color=False)
    (place, _), color = where(scene, a), b.color.name
    korean = rng.choice(
        (
            f'{place} 있는 {first:은} {a.color.name:이고} {second:은} {color:이다}.',
            f'{first:은} {a.color.name}, {second:은} {color:이다}.',
        )
    )
    return korean, f'the {a.kind.english} is {a.color.english} and the {b.kind.english} is {b.color.english}.'


def tell_sizes(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str] | None:
    if a.size == b.size or a.kind is b.kind:
        return None
    first, second = described(a), described(b)
    word, english_word = ('크다', 'larger') if a.size == '큰' else ('작다', 'smaller')
    return f'{first:은} {second}보다 {word}.', f'{english(a)} is {english_word} than {english(b)}.'


def tell_counts(rng: random.Random, scene: Scene, a: Thing, b: Thing) -> tuple[str, str]:
    def counted(kind: Kind) -> tuple[str, str]:
        number = scene.count(kind)
        korean, word = NUMERALS[number]
        return f'{kind.name} {korean} {kind.counter}', f'{word} {kind.english}{"s" * (number > 1)}'

    kinds = rng.sample(sorted({thing.kind.name for thing in scene.things} - {a.kind.name}), 1)
    (first, english_first), (second, english_second) = counted(a.kind), counted(KINDS[kinds[0]])
    korean = rng.choice((f'{scene.room}에 {Noun(first):과} {Noun(second):이} 있다.', f'{Noun(first):과} {Noun(second):이} 보이는 {scene.room}.'))
    return korean, f'{english_first} and {english_second} in a {ENGLISH_ROOMS[scene.room]}.'


TELLERS = (tell_places, tell_places, tell_beside, tell_zones, tell_colors, tell_sizes)


def captions(scene: Scene, seed: int, split: str, index: int) -> tuple[list[str], list[str]]:
    """Five Korean captions and their English twins. Together they name every thing with its colour and place."""
    rng = seeded('kovilt rooms captions', seed, split, index)
    told: list[tuple[str, str]] = []
    queue: list[Thing] = []
    while len(told) < CAPTIONS_PER_PICTURE - 1:
        while len(queue) < 2:
            queue += rng.sample(scene.things, len(scene.things))
        a, b = queue[:2]
        if a is b:
            queue.pop(0)
            continue
        queue = queue[2:]
        clause = None
        while clause is None:
            clause = rng.choice(TELLERS)(rng, scene, a, b)
        told.append(clause)
    told.append(tell_counts(rng, scene, *rng.sample(scene.things, 2)))
    rng.shuffle(told)
    return [korean for korean, _ in told], [text[0].upper() + text[1:] for _, text in told]
