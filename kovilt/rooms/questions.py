"""Korean questions about a scene that the drawn image answers in one way only.

A question is asked only when everyone would give the same answer: objects whose middle lies on the border between
왼쪽 and 가운데 are left out, sizes are compared only between 큰 and 작은, and a phrase refers to an object only if it
fits no other. An answer is 예 or 아니요, a color (빨간색), a digit without its counter (개, 마리, 권, 대), 왼쪽,
가운데 or 오른쪽, or the name of a kind.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from kovilt.rooms.particles import Noun
from kovilt.rooms.scene import CENTER, COLORS, KINDS, LEFT, RIGHT, WALL, Scene, SceneObject, kind_names, seeded_rng

ANSWER_TYPES = ('존재', '색', '개수', '위치', '관계', '비교', '종류')

FORMS: dict[str, tuple[str, ...]] = {  # of the questions; a particle is a format specification, see `Noun`
    'existence': (
        '{it:이} 있나요?', '{it:이} 있습니까?', '{it:이} 있어?', '{it:이} 보이나요?', '사진에 {it:이} 있나요?',
        '사진 속에 {it:이} 보입니까?', '여기에 {it:이} 있어요?', '이 방에 {it:이} 있어',
        '사진에서 {it:을} 볼 수 있나요?',
    ),
    'color': (
        '{it:은} 무슨 색인가요?', '{it:은} 무슨 색입니까?', '{it:은} 무슨 색이야?', '{it:은} 어떤 색이에요?',
        '{it}의 색은 무엇인가요?', '{it}의 색깔은 무엇입니까?', '{it}의 색을 말해 줘',
        '사진에 있는 {it:은} 무슨 색인가요?',
    ),
    'count': (
        '{it:이} 몇 {unit} 있나요?', '{it:은} 몇 {unit}인가요?', '{it:은} 모두 몇 {unit}입니까?',
        '{it:이} 모두 몇 {unit} 있습니까?', '{it:이} 몇 {unit:이야}?', '사진에 {it:이} 몇 {unit} 보이나요?',
        '{it:이} 몇 {unit}인지 세어 줘',
    ),
    'position': (
        '{it:은} 사진의 어느 쪽에 있나요?', '{it:은} 사진의 어디에 있습니까?', '{it:은} 어느 쪽에 있어?',
        '{it}의 위치는 어디인가요?', '{it:은} {choices} 중 어디에 있나요?',
        '{it:이} 있는 곳은 {choices} 중 어디입니까?', '{it:이} 어느 쪽에 보이나요?',
    ),
    'on': (
        '{it} 위에 있는 것은 무엇인가요?', '{it} 위에 무엇이 있습니까?', '{it} 위에는 뭐가 있어?',
        '무엇이 {it} 위에 있나요?',
    ),
    'beside': (
        '{it}의 {side}에 있는 것은 무엇인가요?', '{it} {side}에는 무엇이 있습니까?', '{it} {side}에 뭐가 있어?',
        '{it:을} 기준으로 {side}에 있는 것은 무엇입니까?', '{it}보다 {side}에 있는 것은 무엇인가요?',
    ),
    'which side': (
        '{it:은} {other}의 어느 쪽에 있나요?', '{it:은} {other}의 왼쪽과 오른쪽 중 어디에 있습니까?',
        '{it:은} {other}의 오른쪽과 왼쪽 중 어디에 있어?', '{other:을} 기준으로 {it:은} 어느 쪽에 있습니까?',
    ),
    'comparison': (
        '{it:과} {other} 중에서 더 {which} 것은 무엇인가요?', '{it:과} {other} 중 어느 것이 더 {polite}?',
        '{it:과} {other} 중 더 {which} 것은 무엇입니까?', '{it}하고 {other} 중에 뭐가 더 {plain}?',
        '더 {which} 것은 {it:과} {other} 중 무엇인가요?',
    ),
    'kind of color': (
        '{that_is} 것은 무엇인가요?', '{color}인 것은 무엇입니까?', '무엇이 {color}인가요?', '뭐가 {color}이야?',
        '사진에서 {color}인 것은 무엇인가요?', '{color:으로} 보이는 것은 무엇인가요?',
    ),
    'kind on the wall': (
        '벽에 있는 것은 무엇인가요?', '벽에는 무엇이 있습니까?', '벽에 뭐가 있어?',
        '벽에서 볼 수 있는 것은 무엇입니까?',
    ),
    'outermost kind': (
        '맨 {way}에 있는 것은 무엇인가요?', '가장 {way}에 있는 것은 무엇입니까?', '제일 {way}에 뭐가 있어?',
    ),
    'kind of size': (
        '가장 {way} 것은 무엇인가요?', '제일 {way} 것은 무엇입니까?', '사진에서 가장 {way} 것은 뭐야?',
    ),
}  # fmt: skip
T = TypeVar('T')


class Question(NamedTuple):
    """A question with its answer and the type of answer, one of ANSWER_TYPES."""

    text: str
    answer: str
    answer_type: str


def choose_form(rng: random.Random, name: str, **words: str) -> str:
    """One of FORMS[name], with the words filled in."""
    return rng.choice(FORMS[name]).format(**words)


def shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """All items in random order."""
    return rng.sample(items, len(items))


def refer_to(
    rng: random.Random, scene: Scene, obj: SceneObject, *, color: bool = True, size: bool = True
) -> Noun | None:
    """A referring expression: a phrase that fits `obj` and no other object of the scene; None when there is none.

    `color=False` or `size=False` leaves that attribute out, because the question asks for it.
    """
    alike = [other for other in scene.objects if other.kind is obj.kind]
    by_color = color and sum(other.color is obj.color for other in alike) == 1
    by_size = size and sum(other.size == obj.size for other in alike) == 1
    if len(alike) == 1:
        number = rng.random()
        return obj.describe(color=color and number < 0.3, size=size and number >= 0.85)
    return obj.describe(color=by_color, size=not by_color) if by_color or by_size else None


def ask_existence(rng: random.Random, scene: Scene, answer: str) -> Question:
    """Whether there is a kind, or a kind of one color, each half of the time.

    The answer 아니요 about a color is asked of a kind that is present in other colors.
    """
    present = kind_names(scene.objects)
    if rng.random() < 0.5:
        asked = Noun(rng.choice(present if answer == '예' else sorted(set(KINDS) - set(present))))
    else:
        kind = rng.choice(present)
        colors = missing_colors(rng, scene, kind) if answer == '아니요' else colors_of(scene, kind)
        asked = Noun(f'{COLORS[rng.choice(sorted(colors))].attribute} {kind}')
    return Question(choose_form(rng, 'existence', it=asked), answer, '존재')


def colors_of(scene: Scene, kind: str) -> set[str]:
    """The colors that objects of a kind have."""
    return {str(obj.color.name) for obj in scene.objects if obj.kind.name == kind}


def missing_colors(rng: random.Random, scene: Scene, kind: str) -> set[str]:
    """Colors that no object of a kind has: mostly those of other objects of the scene."""
    own = colors_of(scene, kind)
    elsewhere = {str(obj.color.name) for obj in scene.objects} - own
    return elsewhere if elsewhere and rng.random() < 0.6 else set(COLORS) - own


def ask_color(rng: random.Random, scene: Scene) -> Question | None:
    """The color of an object."""
    for obj in shuffled(rng, scene.objects):
        asked = refer_to(rng, scene, obj, color=False) or refer_by_side(scene, obj)
        if asked:
            return Question(choose_form(rng, 'color', it=asked), obj.color.name, '색')
    return None


def refer_by_side(scene: Scene, obj: SceneObject) -> Noun | None:
    """왼쪽에 있는 소파, if every other sofa is clearly on another side."""
    side = scene.side(obj)
    others = [other for other in scene.objects if other.kind is obj.kind and other is not obj]
    if side is None or any(scene.side(other) in (side, None) for other in others):
        return None
    return Noun(f'{side}에 있는 {obj.kind.name}')


def ask_count(rng: random.Random, scene: Scene) -> Question:
    """How many objects there are of the most frequent kind: one to four, each equally likely."""
    kinds = [KINDS[name] for name in kind_names(scene.objects)]
    most = max(map(scene.count, kinds))
    kind = rng.choice([kind for kind in kinds if scene.count(kind) == most])
    return Question(choose_form(rng, 'count', it=kind.name, unit=Noun(kind.counter)), str(most), '개수')


def ask_position(rng: random.Random, scene: Scene) -> Question | None:
    """On which side an object is. The side is sampled before the object, so that all sides are equally frequent."""
    for side in rng.sample((LEFT, CENTER, RIGHT), 3):
        for obj in shuffled(rng, scene.objects):
            asked = refer_to(rng, scene, obj) if scene.side(obj) == side else None
            if asked:
                choices = ', '.join(rng.sample((LEFT, CENTER, RIGHT), 3))
                return Question(choose_form(rng, 'position', it=asked, choices=choices), side, '위치')
    return None


def ask_relation(rng: random.Random, scene: Scene) -> Question | None:
    """What is on or beside an object, or on which side of another it is: the first of these that has a clear answer."""
    ways = [ask_what_is_beside, ask_which_side]
    if rng.random() < 0.35:
        ways.reverse()
    if rng.random() < 0.7:
        ways.insert(0, ask_what_is_on)
    return next((question for way in ways if (question := way(rng, scene))), None)


def ask_what_is_on(rng: random.Random, scene: Scene) -> Question | None:
    """What stands on a table or a bed."""
    for obj in scene.objects:
        if obj.zone in KINDS:
            return Question(choose_form(rng, 'on', it=obj.zone), obj.kind.name, '관계')
    return None


def ask_what_is_beside(rng: random.Random, scene: Scene) -> Question | None:
    """What is left or right of an object, asked when only objects of one kind are there."""
    for obj in shuffled(rng, scene.objects):
        asked = refer_to(rng, scene, obj)
        others = [other for other in scene.objects if other is not obj]
        unclear = kind_names([other for other in others if scene.is_right_of(other, obj) is None])
        for side in rng.sample((LEFT, RIGHT), 2):
            there = kind_names([other for other in others if scene.is_right_of(other, obj) is (side == RIGHT)])
            if asked and len(there) == 1 and set(unclear) <= set(there) and there[0] != obj.kind.name:
                return Question(choose_form(rng, 'beside', it=asked, side=side), there[0], '관계')
    return None


def ask_which_side(rng: random.Random, scene: Scene) -> Question | None:
    """Whether an object is left or right of another."""
    for a, b in shuffled_pairs(rng, scene):
        right = scene.is_right_of(a, b)
        first, second = refer_to(rng, scene, a), refer_to(rng, scene, b)
        if right is not None and first and second:
            return Question(choose_form(rng, 'which side', it=first, other=second), RIGHT if right else LEFT, '관계')
    return None


def shuffled_pairs(rng: random.Random, scene: Scene) -> list[tuple[SceneObject, SceneObject]]:
    """All ordered pairs of objects of different kinds."""
    return shuffled(rng, [(a, b) for a in scene.objects for b in scene.objects if a.kind is not b.kind])


def ask_comparison(rng: random.Random, scene: Scene) -> Question | None:
    """Which of two objects is larger, smaller, further left or right, or of which of two kinds there are more or fewer.

    The order in which the two are named is sampled before the answer is known, and so does not tell it.
    """
    for way in rng.sample(('크기', '크기', '쪽', '쪽', '수'), 5):
        for a, b in shuffled_pairs(rng, scene):
            if way == '크기':
                words = rng.choice((('큰', '큰가요', '커', 1), ('작은', '작은가요', '작아', -1)))
                first, second = refer_to(rng, scene, a, size=False), refer_to(rng, scene, b, size=False)
                difference = (a.size == '큰') - (b.size == '큰')
            elif way == '쪽':
                side, sign = rng.choice(((RIGHT, 1), (LEFT, -1)))
                words = f'{side}에 있는', f'{side}에 있나요', f'{side}에 있어', sign
                first, second = refer_to(rng, scene, a), refer_to(rng, scene, b)
                difference = {None: 0, True: 1, False: -1}[scene.is_right_of(a, b)]
            else:
                words = rng.choice((('많은', '많나요', '많아', 1), ('적은', '적나요', '적어', -1)))
                first, second = a.kind.name, b.kind.name
                difference = scene.count(a.kind) - scene.count(b.kind)
            if first and second and difference:
                which, polite, plain, sign = words
                return Question(
                    choose_form(rng, 'comparison', it=first, other=second, which=which, polite=polite, plain=plain),
                    (a if difference * sign > 0 else b).kind.name,
                    '비교',
                )
    return None


def ask_kind(rng: random.Random, scene: Scene) -> Question | None:
    """Which kind has a color, is on the wall, or is outermost, large or small."""
    ways = rng.sample((ask_kind_of_color, ask_kind_of_color, ask_extreme, ask_kind_on_wall), 4)
    return next((question for way in ways if (question := way(rng, scene))), None)


def ask_kind_of_color(rng: random.Random, scene: Scene) -> Question | None:
    """Which kind is red, when only one is. Not for green when the leaves of a plant could be meant as well."""
    for obj in shuffled(rng, scene.objects):
        kinds = kind_names([other for other in scene.objects if other.color is obj.color])
        if obj.color.name == '초록색' and kinds != ['화분'] and '화분' in kind_names(scene.objects):
            continue
        if len(kinds) == 1:
            return Question(
                choose_form(rng, 'kind of color', that_is=obj.color.that_is, color=obj.color.name), kinds[0], '종류'
            )
    return None


def ask_kind_on_wall(rng: random.Random, scene: Scene) -> Question | None:
    """Which kind is on the wall, when only one is."""
    kinds = kind_names([obj for obj in scene.objects if obj.zone == WALL])
    if len(kinds) != 1:
        return None
    return Question(choose_form(rng, 'kind on the wall'), kinds[0], '종류')


def ask_extreme(rng: random.Random, scene: Scene) -> Question | None:
    """The leftmost or rightmost kind, or the only kind that is large or small."""
    for way in rng.sample((LEFT, RIGHT, '큰', '작은'), 4):
        if way in (LEFT, RIGHT):
            outer = (max if way == RIGHT else min)(scene.objects, key=lambda obj: obj.x)
            rest = [other for other in scene.objects if other.kind is not outer.kind]
            kinds = [outer.kind.name] if all(scene.is_right_of(outer, o) is (way == RIGHT) for o in rest) else []
        else:
            kinds = kind_names([obj for obj in scene.objects if obj.size == way])
        if len(kinds) == 1:
            form = 'outermost kind' if way in (LEFT, RIGHT) else 'kind of size'
            return Question(choose_form(rng, form, way=way), kinds[0], '종류')
    return None


QUESTION_WRITERS: tuple[Callable[[random.Random, Scene], Question | None], ...] = (
    functools.partial(ask_existence, answer='예'), functools.partial(ask_existence, answer='아니요'),
    ask_color, ask_count, ask_position, ask_relation, ask_comparison, ask_kind,
)  # fmt: skip


def write_questions(scene: Scene, seed: int, split: str, index: int) -> list[Question]:
    """Six to eight questions in random order: an 예, an 아니요, and one of each other type that has a clear answer.

    A scene of one object has fewer, as it has neither relations nor comparisons.
    """
    rng = seeded_rng('kovilt rooms questions', seed, split, index)
    return shuffled(rng, [question for ask in QUESTION_WRITERS if (question := ask(rng, scene))])
