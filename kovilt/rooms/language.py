"""Korean captions and questions about a scene, every word of which the picture decides.

A question is asked only when its answer is the same for everyone who looks: middles on the border between 왼쪽 and
가운데 are passed over, sizes are compared only between 큰 and 작은, and a thing is called so that no other fits the
call. Answers are 예/아니요, a colour's noun (빨간색), a bare digit (whatever counts the thing: 개, 마리, 권, 대),
왼쪽/가운데/오른쪽, or a kind's name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kovilt.rooms.particles import Noun
from kovilt.rooms.scene import CENTRE, COLORS, KINDS, LEFT, RIGHT, WALL, ObjectKind, Scene, Thing, seeded

ANSWER_TYPES = ('존재', '색', '개수', '위치', '관계', '비교', '종류')
CAPTIONS = 5  # a picture
APART = 0.10  # of the width: middles closer than this are neither left nor right of each other
NUMERALS = {1: '한', 2: '두', 3: '세', 4: '네'}
ENGLISH_NUMERALS = {1: 'one', 2: 'two', 3: 'three', 4: 'four'}
ENGLISH_SIZES = {'큰': 'large', '작은': 'small'}
ENGLISH_SIDES = {LEFT: 'on the left', CENTRE: 'in the middle', RIGHT: 'on the right'}
ENGLISH_ROOMS = {'침실': 'bedroom', '주방': 'kitchen', '거실': 'living room', '서재': 'study', '방': 'room'}
Told = tuple[str, str]  # English and Korean


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    answer_type: str


# --------------------------------------------------------------------------------------------------- calling a thing
def call(rng: random.Random, scene: Scene, thing: Thing, *, color: bool = True, size: bool = True) -> Noun | None:
    """A phrase that fits `thing` and nothing else in the scene; None when there is none.

    `color=False` or `size=False` keeps that attribute out: it is what the question is about.
    """
    alike = [other for other in scene.things if other.kind is thing.kind]
    by_color = color and sum(other.color is thing.color for other in alike) == 1
    by_size = size and sum(other.size == thing.size for other in alike) == 1
    if len(alike) == 1:
        draw = rng.random()
        return describe(thing, color=color and draw < 0.3, size=size and draw >= 0.85)
    if by_color:
        return describe(thing)
    if by_size:
        return describe(thing, size=True, color=False)
    return None


def describe(thing: Thing, *, color: bool = True, size: bool = False) -> Noun:
    """작은 빨간 소파"""
    return Noun(' '.join([thing.size] * size + [thing.color.attribute] * color + [thing.kind.name]))


def is_right(scene: Scene, a: Thing, b: Thing) -> bool | None:
    """Whether a is to the right of b; None when they are neither left nor right of each other."""
    distance = (a.x - b.x) / scene.width
    return None if abs(distance) < APART else distance > 0


def kind_names(things: list[Thing] | tuple[Thing, ...]) -> list[str]:
    """The names of the kinds among things, sorted: a set's order is not the same in every process."""
    return sorted({thing.kind.name for thing in things})


# ---------------------------------------------------------------------------------------------------------- questions
def ask_existence(rng: random.Random, scene: Scene, answer: str) -> Question:
    """Half of the questions name a colour; there, a no is about a kind that is present in other colours only."""
    present = kind_names(scene.things)
    if rng.random() < 0.5:
        asked = Noun(rng.choice(present if answer == '예' else sorted(set(KINDS) - set(present))))
    else:
        kind = rng.choice(present)
        colors = {thing.color.name for thing in scene.things if thing.kind.name == kind}
        if answer == '아니요':  # more often than not a colour that something else has
            elsewhere = {thing.color.name for thing in scene.things} - colors
            colors = elsewhere if elsewhere and rng.random() < 0.6 else set(COLORS) - colors
        asked = Noun(f'{COLORS[rng.choice(sorted(colors))].attribute} {kind}')
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
        asked = call(rng, scene, thing, color=False) or call_by_side(scene, thing)
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


def call_by_side(scene: Scene, thing: Thing) -> Noun | None:
    """왼쪽에 있는 소파, when every other sofa is clearly on another side."""
    side = scene.side(thing)
    others = [other for other in scene.things if other.kind is thing.kind and other is not thing]
    if side is None or any(scene.side(other) in (side, None) for other in others):
        return None
    return Noun(f'{side}에 있는 {thing.kind.name}')


def ask_count(rng: random.Random, scene: Scene) -> Question:
    """How many there are of the most frequent kind, which was drawn one to four times with equal chance."""
    kinds = [KINDS[name] for name in kind_names(scene.things)]
    most = max(map(scene.count, kinds))
    kind = rng.choice([kind for kind in kinds if scene.count(kind) == most])
    asked, unit = kind.name, Noun(kind.counter)
    text = rng.choice(
        (
            f'{asked:이} 몇 {unit} 있나요?',
            f'{asked:은} 몇 {unit}인가요?',
            f'{asked:은} 모두 몇 {unit}입니까?',
            f'{asked:이} 모두 몇 {unit} 있습니까?',
            f'{asked:이} 몇 {unit:이야}?',
            f'사진에 {asked:이} 몇 {unit} 보이나요?',
            f'{asked:이} 몇 {unit}인지 세어 줘',
        )
    )
    return Question(text, str(most), '개수')


def ask_position(rng: random.Random, scene: Scene) -> Question | None:
    """Where a thing is; the side is chosen before the thing, so that sides are asked about equally often."""
    for side in rng.sample((LEFT, CENTRE, RIGHT), 3):
        for thing in rng.sample(scene.things, len(scene.things)):
            asked = call(rng, scene, thing) if scene.side(thing) == side else None
            if asked:
                choices = ', '.join(rng.sample((LEFT, CENTRE, RIGHT), 3))
                text = rng.choice(
                    (
                        f'{asked:은} 사진의 어느 쪽에 있나요?',
                        f'{asked:은} 사진의 어디에 있습니까?',
                        f'{asked:은} 어느 쪽에 있어?',
                        f'{asked}의 위치는 어디인가요?',
                        f'{asked:은} {choices} 중 어디에 있나요?',
                        f'{asked:이} 있는 곳은 {choices} 중 어디입니까?',
                        f'{asked:이} 어느 쪽에 보이나요?',
                    )
                )
                return Question(text, side, '위치')
    return None


def ask_relation(rng: random.Random, scene: Scene) -> Question | None:
    ways = [ask_what_is_beside, ask_which_side]
    if rng.random() < 0.35:
        ways.reverse()
    if rng.random() < 0.7:
        ways.insert(0, ask_what_is_on)
    return next((question for way in ways if (question := way(rng, scene))), None)


def ask_what_is_on(rng: random.Random, scene: Scene) -> Question | None:
    for thing in scene.things:
        if thing.zone in KINDS:
            text = rng.choice(
                (
                    f'{thing.zone} 위에 있는 것은 무엇인가요?',
                    f'{thing.zone} 위에 무엇이 있습니까?',
                    f'{thing.zone} 위에는 뭐가 있어?',
                    f'무엇이 {thing.zone} 위에 있나요?',
                )
            )
            return Question(text, thing.kind.name, '관계')
    return None


def ask_what_is_beside(rng: random.Random, scene: Scene) -> Question | None:
    """What is left or right of a thing, asked when things of only one kind are."""
    for thing in rng.sample(scene.things, len(scene.things)):
        asked = call(rng, scene, thing)
        others = [other for other in scene.things if other is not thing]
        unclear = kind_names([other for other in others if is_right(scene, other, thing) is None])
        for side in rng.sample((LEFT, RIGHT), 2):
            there = kind_names([other for other in others if is_right(scene, other, thing) is (side == RIGHT)])
            if asked and len(there) == 1 and set(unclear) <= set(there) and there[0] != thing.kind.name:
                text = rng.choice(
                    (
                        f'{asked}의 {side}에 있는 것은 무엇인가요?',
                        f'{asked} {side}에는 무엇이 있습니까?',
                        f'{asked} {side}에 뭐가 있어?',
                        f'{asked:을} 기준으로 {side}에 있는 것은 무엇입니까?',
                        f'{asked}보다 {side}에 있는 것은 무엇인가요?',
                    )
                )
                return Question(text, there[0], '관계')
    return None


def ask_which_side(rng: random.Random, scene: Scene) -> Question | None:
    for a, b in pairs(rng, scene):
        right = is_right(scene, a, b)
        first, second = call(rng, scene, a), call(rng, scene, b)
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
    """Which of two is larger, smaller, further left or right, or which kind there is more or less of.

    The order in which the two are named is drawn before, and without, the answer.
    """
    for way in rng.sample(('크기', '크기', '쪽', '쪽', '수'), 5):
        for a, b in pairs(rng, scene):
            if way == '크기':
                words = rng.choice((('큰', '큰가요', '커', 1), ('작은', '작은가요', '작아', -1)))
                first, second = call(rng, scene, a, size=False), call(rng, scene, b, size=False)
                difference = (a.size == '큰') - (b.size == '큰')
            elif way == '쪽':
                side, sign = rng.choice(((RIGHT, 1), (LEFT, -1)))
                words = f'{side}에 있는', f'{side}에 있나요', f'{side}에 있어', sign
                first, second = call(rng, scene, a), call(rng, scene, b)
                difference = {None: 0, True: 1, False: -1}[is_right(scene, a, b)]
            else:
                words = rng.choice((('많은', '많나요', '많아', 1), ('적은', '적나요', '적어', -1)))
                first, second = a.kind.name, b.kind.name
                difference = scene.count(a.kind) - scene.count(b.kind)
            if first and second and difference:
                which, polite, plain, sign = words
                text = rng.choice(
                    (
                        f'{first:과} {second} 중에서 더 {which} 것은 무엇인가요?',
                        f'{first:과} {second} 중 어느 것이 더 {polite}?',
                        f'{first:과} {second} 중 더 {which} 것은 무엇입니까?',
                        f'{first}하고 {second} 중에 뭐가 더 {plain}?',
                        f'더 {which} 것은 {first:과} {second} 중 무엇인가요?',
                    )
                )
                return Question(text, (a if difference * sign > 0 else b).kind.name, '비교')
    return None


def ask_kind(rng: random.Random, scene: Scene) -> Question | None:
    ways = rng.sample((ask_kind_of_color, ask_kind_of_color, ask_extreme, ask_kind_on_wall), 4)
    return next((question for way in ways if (question := way(rng, scene))), None)


def ask_kind_of_color(rng: random.Random, scene: Scene) -> Question | None:
    """What is red, asked when one kind is. Not of green when a plant's leaves could be meant as well."""
    for thing in rng.sample(scene.things, len(scene.things)):
        kinds = kind_names([other for other in scene.things if other.color is thing.color])
        if thing.color.name == '초록색' and kinds != ['화분'] and '화분' in kind_names(scene.things):
            continue
        if len(kinds) == 1:
            color = thing.color
            text = rng.choice(
                (
                    f'{color.that_is} 것은 무엇인가요?',
                    f'{color.name}인 것은 무엇입니까?',
                    f'무엇이 {color.name}인가요?',
                    f'뭐가 {color.name}이야?',
                    f'사진에서 {color.name}인 것은 무엇인가요?',
                    f'{color.name:으로} 보이는 것은 무엇인가요?',
                )
            )
            return Question(text, kinds[0], '종류')
    return None


def ask_kind_on_wall(rng: random.Random, scene: Scene) -> Question | None:
    kinds = kind_names([thing for thing in scene.things if thing.zone == WALL])
    if len(kinds) != 1:
        return None
    text = rng.choice(
        (
            '벽에 있는 것은 무엇인가요?',
            '벽에는 무엇이 있습니까?',
            '벽에 뭐가 있어?',
            '벽에서 볼 수 있는 것은 무엇입니까?',
        )
    )
    return Question(text, kinds[0], '종류')


def ask_extreme(rng: random.Random, scene: Scene) -> Question | None:
    """The leftmost or rightmost kind, or the only kind that is large or small."""
    for way in rng.sample((LEFT, RIGHT, '큰', '작은'), 4):
        if way in (LEFT, RIGHT):
            outer = max(scene.things, key=lambda thing, sign=1 if way == RIGHT else -1: sign * thing.x)
            rest = [other for other in scene.things if other.kind is not outer.kind]
            kinds = [outer.kind.name] if all(is_right(scene, outer, o) is (way == RIGHT) for o in rest) else []
            phrases = (
                f'맨 {way}에 있는 것은 무엇인가요?',
                f'가장 {way}에 있는 것은 무엇입니까?',
                f'제일 {way}에 뭐가 있어?',
            )
        else:
            kinds = kind_names([thing for thing in scene.things if thing.size == way])
            phrases = (
                f'가장 {way} 것은 무엇인가요?',
                f'제일 {way} 것은 무엇입니까?',
                f'사진에서 가장 {way} 것은 뭐야?',
            )
        if len(kinds) == 1:
            return Question(rng.choice(phrases), kinds[0], '종류')
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
    """Six to eight questions in any order: a yes, a no, and one of each other type that has a clear answer here.

    A thing alone has neither relation nor comparison.
    """
    rng = seeded('kovilt rooms questions', seed, split, index)
    asked = [question for ask in ASKERS if (question := ask(rng, scene))]
    return rng.sample(asked, len(asked))


# ----------------------------------------------------------------------------------------------------------- captions
def captions(scene: Scene, seed: int, split: str, index: int) -> tuple[list[str], list[str]]:
    """Five different Korean captions and their English twins.

    One counts; three, or four where there are more than four things, tell kind, colour and place of every thing, or of
    every other one; the others relate and compare. A number that is told is the number of all such things there.
    """
    rng = seeded('kovilt rooms captions', seed, split, index)
    told = dict([tell_counts(rng, scene)])
    for _ in range(2 if len(scene.things) > 4 else 3):
        things = rng.sample(scene.things, len(scene.things))
        for group in [things[::2], things[1::2]] if len(things) > 4 else [things]:
            told.setdefault(*tell_places(rng, scene, group))
    while len(told) < CAPTIONS:
        caption = rng.choice(TELLERS)(rng, scene)
        if caption:
            told.setdefault(*caption)
    rows = rng.sample(sorted(told.items()), CAPTIONS)
    return [korean for _, korean in rows], [text[0].upper() + text[1:] + '.' for text, _ in rows]


def zone(thing: Thing) -> str:
    return f'{thing.zone} 위에' if thing.zone in KINDS else f'{thing.zone}에'


def english_place(place: str) -> str:
    for side, english in ENGLISH_SIDES.items():
        if place == f'{side}에':
            return english
    return {'벽에': 'on the wall', '바닥에': 'on the floor'}.get(place) or f'on the {KINDS[place.split()[0]].english}'


def be(things: list[Thing]) -> str:
    """The stem of the verb for how things are there: a clock hangs, a cat sits; different things just are."""
    if len({(thing.kind.name, thing.zone) for thing in things}) > 1 or things[0].kind.name == '창문':
        return '있'
    if things[0].zone == WALL:
        return '걸려 있'
    return {'고양이': '앉아 있', '강아지': '서 있'}.get(things[0].kind.name, '놓여 있')


def clauses(parts: list[tuple[str, Noun, str]]) -> tuple[str, str]:
    """All but the last of some (place, noun, verb stem) as clauses, and the last without its ending."""
    *before, (place, noun, last) = parts
    first = [f'{where} {phrase:이} {"있" if stem == last else stem}고 ' for where, phrase, stem in before]
    return ''.join(first), f'{place} {noun:이} {last}'


def join(nouns: list[Noun]) -> Noun:
    """의자, 컵과 소파"""
    *before, last = nouns
    return Noun(''.join([*(f'{noun}, ' for noun in before[:-1]), *(f'{noun:과} ' for noun in before[-1:]), last]))


def numbered(phrase: str, words: str, kind: ObjectKind, number: int, *, always: bool = False) -> Told:
    """Two red chairs, 빨간 의자 두 개; `always` says one, too."""
    korean = Noun(f'{phrase} {NUMERALS[number]} {kind.counter}' if number > 1 or always else phrase)
    if number > 1:
        return f'{ENGLISH_NUMERALS[number]} {words}s', korean
    return (f'one {words}' if always else with_article(words)), korean


def with_article(words: str) -> str:
    return f'{"an" if words[0] in "aeiou" else "a"} {words}'


def english(thing: Thing, *, size: bool = False) -> str:
    return ' '.join([ENGLISH_SIZES[thing.size]] * size + [thing.color.english, thing.kind.english])


def listed(things: list[Thing], number: Callable[[Thing], int | None], *, size: bool) -> Told:
    """작은 빨간 의자 두 개와 노란 소파: things described alike are told once, with their `number` where it is sure."""
    alike = {describe(thing, size=size): thing for thing in things}
    told = [
        numbered(phrase, english(thing, size=size), thing.kind, number(thing) or 1) for phrase, thing in alike.items()
    ]
    return ' and '.join(words for words, _ in told), join([noun for _, noun in told])


def only_one(scene: Scene, thing: Thing, *, size: bool = False) -> bool:
    """Whether a description fits nothing else, so that a sentence may be about it."""
    phrase = describe(thing, size=size)
    return sum(describe(other, size=size) == phrase for other in scene.things) == 1


def tell_places(rng: random.Random, scene: Scene, things: list[Thing]) -> Told:
    """Each thing's colour and place, its side where that is clear; things at one place are told together."""
    by_zone = rng.random() < 0.25
    size = rng.random() < (0.6 if len(things) > 2 else 0.8)
    places: dict[str, list[Thing]] = {}
    for thing in things:
        side = None if by_zone else scene.side(thing)
        places.setdefault(f'{side}에' if side else zone(thing), []).append(thing)
    parts, twins = [], []
    for place, group in places.items():

        def number(thing: Thing, place: str = place) -> int | None:
            phrase = describe(thing, size=size)
            alike = [other for other in scene.things if describe(other, size=size) == phrase]
            if place == zone(thing):
                return sum(zone(other) == place for other in alike)
            sides = [scene.side(other) for other in alike]
            return None if None in sides else sides.count(scene.side(thing))

        words, noun = listed(group, number, size=size)
        parts.append((place, noun, be(group)))
        twins.append(f'{words} {english_place(place)}')
    first, last = clauses(parts)
    *before, (place, noun, _) = parts
    short = ''.join(f'{where} {phrase}, ' for where, phrase, _ in before)
    forms = [
        f'{scene.room} {first}{last}다.',
        f'{first}{last}다.',
        f'{first}{last}는 {scene.room}',
        f'{short}{place} {noun:이} 있다.',
        f'{short}{place} {noun:이} 보이는 {scene.room}',
    ]
    if all(only_one(scene, thing, size=size) for thing in things):
        forms.append(', '.join(f'{phrase:은} {where}' for where, phrase, _ in parts) + ' 있다.')
    return ', '.join(twins), rng.choice(forms)


def tell_some_places(rng: random.Random, scene: Scene) -> Told:
    return tell_places(rng, scene, rng.sample(scene.things, min(len(scene.things), rng.randint(2, 3))))


def tell_beside(rng: random.Random, scene: Scene) -> Told | None:
    """What is left or right of a thing: one other, or two others."""
    if len(scene.things) < 2:
        return None
    anchor, *others = rng.sample(scene.things, min(len(scene.things), rng.randint(2, 3)))
    places = {other: is_right(scene, other, anchor) for other in scene.things if other is not anchor}
    if not only_one(scene, anchor) or any(places[other] is None for other in others):
        return None
    size = rng.random() < 0.5

    def number(thing: Thing) -> int | None:
        phrase = describe(thing, size=size)
        alike = [right for other, right in places.items() if describe(other, size=size) == phrase]
        return None if None in alike else alike.count(places[thing])

    parts, twins = [], []
    for right in sorted({places[other] for other in others}, key=lambda _: rng.random()):
        group = [other for other in others if places[other] is right]
        words, noun = listed(group, number, size=size)
        parts.append((f'{RIGHT if right else LEFT}에', noun, be(group)))
        twins.append(f'{words} to the {"right" if right else "left"} of {with_article(english(anchor))}')
    call = describe(anchor)
    first, last = clauses(parts)
    forms = [
        f'{call} {first}{last}다.',
        f'{call:을} 기준으로 {first}{last}다.',
        f'{scene.room}에 있는 {call}의 {first}{last}다.',
    ]
    if len(parts) == 1:
        place, noun, stem = parts[0]
        forms.append(f'{scene.room}에 {call:이} {be([anchor])}고 그 {last}다.')
        if all(only_one(scene, other, size=size) for other in others):
            forms.append(f'{noun:은} {call}의 {place} {stem}다.')
    return ', '.join(twins), rng.choice(forms)


def tell_on(rng: random.Random, scene: Scene) -> Told | None:
    """What stands on a table or a bed, with both colours."""
    guest = next((thing for thing in scene.things if thing.zone in KINDS), None)
    if guest is None:
        return None
    holder = next(thing for thing in scene.things if thing.kind.name == guest.zone)
    size = rng.random() < 0.5
    noun, base, stem = describe(guest, size=size), describe(holder, size=size), be([guest])
    korean = rng.choice(
        (
            f'{base} 위에 {noun:이} {stem}다.',
            f'{noun:이} {base} 위에 {stem}다.',
            f'{scene.room}에 {base:이} 있고 그 위에 {noun:이} {stem}다.',
        )
    )
    return f'{with_article(english(guest, size=size))} on {with_article(english(holder, size=size))}', korean


def tell_colors(rng: random.Random, scene: Scene) -> Told | None:
    """The colours of two or three things that are each the only one of their kind, or of the only thing."""
    single = [thing for thing in scene.things if scene.count(thing.kind) == 1]
    if len(single) < min(2, len(scene.things)):
        return None
    *before, last = rng.sample(single, min(len(single), rng.randint(2, 3)))
    link = rng.choice((', ', '이고 '))
    first = ''.join(f'{thing.kind.name:은} {thing.color.name}{link}' for thing in before)
    twins = [f'the {thing.kind.english} is {thing.color.english}' for thing in (*before, last)]
    return ' and '.join(twins), f'{first}{last.kind.name:은} {last.color.name:이다}.'


def tell_sizes(rng: random.Random, scene: Scene) -> Told | None:
    """Which of two is larger, or which kind there is more of."""
    if len(scene.things) < 2:
        return None
    a, b = rng.sample(scene.things, 2)
    if a.kind is b.kind:
        return None
    if a.size != b.size and only_one(scene, a) and only_one(scene, b):
        word, twin = ('크다', 'larger') if a.size == '큰' else ('작다', 'smaller')
        first, second, side = describe(a), describe(b), scene.side(a)
        forms = [f'{first:은} {second}보다 {word}.', f'{second}보다 {first:이} 더 {word}.']
        if side:
            forms.append(f'{side}에 있는 {first:은} {second}보다 {word}.')
        return f'{with_article(english(a))} is {twin} than {with_article(english(b))}', rng.choice(forms)
    more = scene.count(a.kind) - scene.count(b.kind)
    if not more:
        return None
    word, twin = ('많다', 'more') if more > 0 else ('적다', 'fewer')
    return f'there are {twin} {a.kind.english}s than {b.kind.english}s', f'{a.kind.name:이} {b.kind.name}보다 {word}.'


def tell_counts(rng: random.Random, scene: Scene) -> Told:
    """How many there are of two or three kinds, sometimes with a kind that is absent."""
    names = kind_names(scene.things)
    kinds = [KINDS[name] for name in rng.sample(names, min(len(names), rng.randint(2, 3)))]
    most = max((KINDS[name] for name in names), key=scene.count)
    if most not in kinds:
        kinds[0] = most
    told = [numbered(kind.name, kind.english, kind, scene.count(kind), always=True) for kind in kinds]
    twin = f'{" and ".join(words for words, _ in told)} in a {ENGLISH_ROOMS[scene.room]}'
    noun, room = join([noun for _, noun in told]), scene.room
    if rng.random() < 0.5:
        forms = f'{room}에 {noun:이} 있다.', f'{room}에는 {noun:이} 있다.', f'{noun:이} 보이는 {room}'
        return twin, rng.choice(forms)
    absent = KINDS[rng.choice(sorted(set(KINDS) - set(names)))]
    forms = f'{room}에 {noun:은} 있지만 {absent.name:은} 없다.', f'{room}에 {noun:이} 있고 {absent.name:은} 없다.'
    return f'{twin}, but no {absent.english}', rng.choice(forms)


TELLERS: tuple[Callable[[random.Random, Scene], Told | None], ...] = (
    tell_some_places,
    tell_beside,
    tell_beside,
    tell_beside,
    tell_on,
    tell_on,
    tell_colors,
    tell_sizes,
    tell_counts,
)
