"""Korean captions of a scene, each with its English translation, that state only what the drawn image shows."""

from __future__ import annotations

import random
from collections.abc import Callable

from kovilt.rooms.particles import Noun
from kovilt.rooms.scene import KINDS, LEFT, RIGHT, WALL, ObjectKind, Scene, SceneObject, kind_names, seeded_rng

CAPTIONS = 5  # of one image
NUMERALS = {1: '한', 2: '두', 3: '세', 4: '네'}
ENGLISH_NUMERALS = {1: 'one', 2: 'two', 3: 'three', 4: 'four'}
ENGLISH_SIZES = {'큰': 'large', '작은': 'small'}
ENGLISH_PLACES = {
    '왼쪽에': 'on the left', '가운데에': 'in the middle', '오른쪽에': 'on the right', '벽에': 'on the wall',
    '바닥에': 'on the floor', **{f'{kind.name} 위에': f'on the {kind.english}' for kind in KINDS.values()},
}  # fmt: skip
ENGLISH_ROOMS = {'침실': 'bedroom', '주방': 'kitchen', '거실': 'living room', '서재': 'study', '방': 'room'}
Bilingual = tuple[str, str]  # a phrase or sentence in English and in Korean
PlacedNoun = tuple[str, Noun, str]  # 왼쪽에, 의자 두 개, 놓여 있: where, what, the stem of the verb


def write_captions(scene: Scene, seed: int, split: str, index: int) -> tuple[list[str], list[str]]:
    """Five different Korean captions, and their English translations in the same order.

    One caption counts. Three, or four if the scene has more than four objects, give kind, color and place of all
    objects or of half of them. The others relate and compare. A number in a caption counts all objects that fit its
    description.
    """
    rng = seeded_rng('kovilt rooms captions', seed, split, index)
    korean_of = dict([caption_counts(rng, scene)])  # English -> Korean
    for _ in range(2 if len(scene.objects) > 4 else 3):
        objects = rng.sample(scene.objects, len(scene.objects))
        for group in [objects[::2], objects[1::2]] if len(objects) > 4 else [objects]:
            korean_of.setdefault(*caption_places(rng, scene, group))
    while len(korean_of) < CAPTIONS:
        caption = rng.choice(CAPTION_WRITERS)(rng, scene)
        if caption:
            korean_of.setdefault(*caption)
    chosen = rng.sample(sorted(korean_of.items()), CAPTIONS)
    return [korean for _, korean in chosen], [english[0].upper() + english[1:] + '.' for english, _ in chosen]


def zone_phrase(obj: SceneObject) -> str:
    """벽에, 바닥에, 탁자 위에"""
    return f'{obj.zone} 위에' if obj.zone in KINDS else f'{obj.zone}에'


def verb_stem(objects: list[SceneObject]) -> str:
    """The stem of the verb for how objects are placed: a clock hangs, a cat sits; objects of several kinds just are."""
    if len({(obj.kind.name, obj.zone) for obj in objects}) > 1 or objects[0].kind.name == '창문':
        return '있'
    if objects[0].zone == WALL:
        return '걸려 있'
    return {'고양이': '앉아 있', '강아지': '서 있'}.get(objects[0].kind.name, '놓여 있')


def join_clauses(places: list[PlacedNoun]) -> tuple[str, str]:
    """One clause a place: all but the last joined, and the last without the ending of its verb."""
    *before, (place, noun, last) = places
    first = [f'{where} {phrase:이} {"있" if stem == last else stem}고 ' for where, phrase, stem in before]
    return ''.join(first), f'{place} {noun:이} {last}'


def join_nouns(nouns: list[Noun]) -> Noun:
    """의자, 컵과 소파"""
    *before, last = nouns
    return Noun(', '.join(before[:-1] + [f'{noun:과} {last}' for noun in before[-1:]]) if before else last)


def count_phrase(korean: str, english: str, kind: ObjectKind, number: int, *, always: bool = False) -> tuple[str, Noun]:
    """Two red chairs, 빨간 의자 두 개. With `always` the number one is written too."""
    noun = Noun(f'{korean} {NUMERALS[number]} {kind.counter}' if number > 1 or always else korean)
    if number > 1:
        return f'{ENGLISH_NUMERALS[number]} {english}s', noun
    return (f'one {english}' if always else with_article(english)), noun


def with_article(english: str) -> str:
    """An orange chair, a red chair."""
    return f'{"an" if english[0] in "aeiou" else "a"} {english}'


def describe_in_english(obj: SceneObject, *, size: bool = False) -> str:
    """Small red sofa."""
    return ' '.join([ENGLISH_SIZES[obj.size]] * size + [obj.color.english, obj.kind.english])


def list_objects(
    scene: Scene, objects: list[SceneObject], place_of: Callable[[SceneObject], object], *, size: bool
) -> tuple[str, Noun]:
    """작은 빨간 의자 두 개와 노란 소파: objects of one description once, with their number.

    The number counts all objects of the scene that fit the description and have the same `place_of`. It is left out
    where that is None, unclear, for one of them.
    """
    phrases = []
    for description, obj in {obj.describe(size=size): obj for obj in objects}.items():
        places = [place_of(other) for other in scene.objects if other.describe(size=size) == description]
        number = 1 if None in places else places.count(place_of(obj))
        phrases.append(count_phrase(description, describe_in_english(obj, size=size), obj.kind, number))
    return ' and '.join(english for english, _ in phrases), join_nouns([noun for _, noun in phrases])


def is_unique(scene: Scene, obj: SceneObject, *, size: bool = False) -> bool:
    """Whether the description of an object fits no other, so that it may be the subject of a sentence."""
    description = obj.describe(size=size)
    return sum(other.describe(size=size) == description for other in scene.objects) == 1


def caption_places(rng: random.Random, scene: Scene, objects: list[SceneObject]) -> Bilingual:
    """Color and place of each object: its side where that is clear, else its zone. Objects at one place are listed."""
    by_zone = rng.random() < 0.25
    size = rng.random() < (0.6 if len(objects) > 2 else 0.8)
    groups: dict[str, list[SceneObject]] = {}
    for obj in objects:
        side = None if by_zone else scene.side(obj)
        groups.setdefault(f'{side}에' if side else zone_phrase(obj), []).append(obj)
    places: list[PlacedNoun] = []
    english: list[str] = []
    for place, group in groups.items():
        place_of = zone_phrase if place == zone_phrase(group[0]) else scene.side
        words, noun = list_objects(scene, group, place_of, size=size)
        places.append((place, noun, verb_stem(group)))
        english.append(f'{words} {ENGLISH_PLACES[place]}')
    first, last = join_clauses(places)
    *before, (place, noun, _) = places
    short = ''.join(f'{where} {phrase}, ' for where, phrase, _ in before)
    forms = [
        f'{scene.room} {first}{last}다.',
        f'{first}{last}다.',
        f'{first}{last}는 {scene.room}',
        f'{short}{place} {noun:이} 있다.',
        f'{short}{place} {noun:이} 보이는 {scene.room}',
    ]
    if all(is_unique(scene, obj, size=size) for obj in objects):
        forms.append(', '.join(f'{phrase:은} {where}' for where, phrase, _ in places) + ' 있다.')
    return ', '.join(english), rng.choice(forms)


def caption_some_places(rng: random.Random, scene: Scene) -> Bilingual:
    """As `caption_places`, of two or three objects."""
    return caption_places(rng, scene, rng.sample(scene.objects, min(len(scene.objects), rng.randint(2, 3))))


def caption_beside(rng: random.Random, scene: Scene) -> Bilingual | None:
    """What is left or right of an object: one other, or two others."""
    if len(scene.objects) < 2:
        return None
    anchor, *others = rng.sample(scene.objects, min(len(scene.objects), rng.randint(2, 3)))
    right_of = {other: scene.is_right_of(other, anchor) for other in scene.objects if other is not anchor}
    if not is_unique(scene, anchor) or any(right_of[other] is None for other in others):
        return None
    size = rng.random() < 0.5
    places: list[PlacedNoun] = []
    english: list[str] = []
    for right in sorted({right_of[other] for other in others}, key=lambda _: rng.random()):
        group = [other for other in others if right_of[other] is right]
        words, noun = list_objects(scene, group, right_of.get, size=size)
        places.append((f'{RIGHT if right else LEFT}에', noun, verb_stem(group)))
        side = 'right' if right else 'left'
        english.append(f'{words} to the {side} of {with_article(describe_in_english(anchor))}')
    reference = anchor.describe()
    first, last = join_clauses(places)
    forms = [
        f'{reference} {first}{last}다.',
        f'{reference:을} 기준으로 {first}{last}다.',
        f'{scene.room}에 있는 {reference}의 {first}{last}다.',
    ]
    if len(places) == 1:
        place, noun, stem = places[0]
        forms.append(f'{scene.room}에 {reference:이} {verb_stem([anchor])}고 그 {last}다.')
        if all(is_unique(scene, other, size=size) for other in others):
            forms.append(f'{noun:은} {reference}의 {place} {stem}다.')
    return ', '.join(english), rng.choice(forms)


def caption_on(rng: random.Random, scene: Scene) -> Bilingual | None:
    """What stands on a table or a bed, with both colors."""
    guest = next((obj for obj in scene.objects if obj.zone in KINDS), None)
    if guest is None:
        return None
    holder = next(obj for obj in scene.objects if obj.kind.name == guest.zone)
    size = rng.random() < 0.5
    noun, base, stem = guest.describe(size=size), holder.describe(size=size), verb_stem([guest])
    forms = [
        f'{base} 위에 {noun:이} {stem}다.',
        f'{noun:이} {base} 위에 {stem}다.',
        f'{scene.room}에 {base:이} 있고 그 위에 {noun:이} {stem}다.',
    ]
    upper, lower = (with_article(describe_in_english(obj, size=size)) for obj in (guest, holder))
    return f'{upper} on {lower}', rng.choice(forms)


def caption_colors(rng: random.Random, scene: Scene) -> Bilingual | None:
    """The colors of two or three objects that are each the only one of their kind, or of the only object."""
    single = [obj for obj in scene.objects if scene.count(obj.kind) == 1]
    if len(single) < min(2, len(scene.objects)):
        return None
    *before, last = rng.sample(single, min(len(single), rng.randint(2, 3)))
    link = rng.choice((', ', '이고 '))
    first = ''.join(f'{obj.kind.name:은} {obj.color.name}{link}' for obj in before)
    english = [f'the {obj.kind.english} is {obj.color.english}' for obj in (*before, last)]
    return ' and '.join(english), f'{first}{last.kind.name:은} {last.color.name:이다}.'


def caption_sizes(rng: random.Random, scene: Scene) -> Bilingual | None:
    """Which of two objects is larger, or of which of two kinds there are more."""
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    if a.kind is b.kind:
        return None
    if a.size != b.size and is_unique(scene, a) and is_unique(scene, b):
        korean, english = ('크다', 'larger') if a.size == '큰' else ('작다', 'smaller')
        first, second, side = a.describe(), b.describe(), scene.side(a)
        forms = [f'{first:은} {second}보다 {korean}.', f'{second}보다 {first:이} 더 {korean}.']
        if side:
            forms.append(f'{side}에 있는 {first:은} {second}보다 {korean}.')
        one, other = (with_article(describe_in_english(obj)) for obj in (a, b))
        return f'{one} is {english} than {other}', rng.choice(forms)
    difference = scene.count(a.kind) - scene.count(b.kind)
    if not difference:
        return None
    korean, english = ('많다', 'more') if difference > 0 else ('적다', 'fewer')
    translation = f'there are {english} {a.kind.english}s than {b.kind.english}s'
    return translation, f'{a.kind.name:이} {b.kind.name}보다 {korean}.'


def caption_counts(rng: random.Random, scene: Scene) -> Bilingual:
    """How many objects there are of two or three kinds; half of these captions also name a kind that is absent."""
    names = kind_names(scene.objects)
    kinds = [KINDS[name] for name in rng.sample(names, min(len(names), rng.randint(2, 3)))]
    most = max((KINDS[name] for name in names), key=scene.count)
    if most not in kinds:
        kinds[0] = most
    phrases = [count_phrase(kind.name, kind.english, kind, scene.count(kind), always=True) for kind in kinds]
    english = f'{" and ".join(words for words, _ in phrases)} in a {ENGLISH_ROOMS[scene.room]}'
    noun, room = join_nouns([noun for _, noun in phrases]), scene.room
    if rng.random() < 0.5:
        return english, rng.choice(
            (f'{room}에 {noun:이} 있다.', f'{room}에는 {noun:이} 있다.', f'{noun:이} 보이는 {room}')
        )
    absent = KINDS[rng.choice(sorted(set(KINDS) - set(names)))]
    forms = f'{room}에 {noun:은} 있지만 {absent.name:은} 없다.', f'{room}에 {noun:이} 있고 {absent.name:은} 없다.'
    return f'{english}, but no {absent.english}', rng.choice(forms)


CAPTION_WRITERS: tuple[Callable[[random.Random, Scene], Bilingual | None], ...] = (  # sampled with these weights
    caption_some_places, caption_beside, caption_beside, caption_beside, caption_on, caption_on, caption_colors,
    caption_sizes, caption_counts,
)  # fmt: skip
