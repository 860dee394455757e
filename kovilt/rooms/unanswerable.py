"""Questions that an image does not answer, because they are about something that is not there.

They ask for the color or the side of an object, for what is on or beside it, for the larger one or the one further left
of two, or for what has a color. The object is of an absent kind or, in some questions that may name its color, of a
kind that is there in other colors alone; the color that is asked for is absent. Whether something is there and how
many there are is never asked: that has an answer. Forms, words and the frequency of types are those of answerable
questions of these types, so that among them the words alone tell little.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from kovilt.rooms.particles import Noun
from kovilt.rooms.questions import Question, choose_form, missing_colors, refer_to, shuffled
from kovilt.rooms.scene import CENTER, COLORS, KINDS, LEFT, RIGHT, SIZES, Scene, kind_names, seeded_rng
from kovilt.unanswerable import NO_ANSWER, UNANSWERABLE

QUESTIONS = 2  # of an image: a fifth of all
WRONG_COLOR = 0.3  # of the objects that may have a color: their kind is there
_COLOR_SHARE, _SIZE_SHARE = 0.2, 0.15  # of the others; together about as many as in answerable questions


def absent_object(rng: random.Random, scene: Scene, *, color: bool = True) -> Noun:
    """A phrase that fits no object of the scene; `color=False` leaves a color out, because the question asks for it."""
    if color and rng.random() < WRONG_COLOR:
        kind = rng.choice(kind_names(scene.objects))
        return Noun(f'{COLORS[rng.choice(sorted(missing_colors(rng, scene, kind)))].attribute} {kind}')
    kind = rng.choice(absent_kinds(scene))
    number = rng.random()
    if color and number < _COLOR_SHARE:
        return Noun(f'{rng.choice(list(COLORS.values())).attribute} {kind}')
    return Noun(f'{rng.choice(list(SIZES))} {kind}') if number >= 1 - _SIZE_SHARE else kind


def absent_kinds(scene: Scene) -> list[Noun]:
    """The kinds of which no object is there."""
    return [kind.name for kind in KINDS.values() if not scene.count(kind)]


def ask_color(rng: random.Random, scene: Scene) -> str:
    return choose_form(rng, 'color', it=absent_object(rng, scene, color=False))


def ask_position(rng: random.Random, scene: Scene) -> str:
    choices = ', '.join(rng.sample((LEFT, CENTER, RIGHT), 3))
    return choose_form(rng, 'position', it=absent_object(rng, scene), choices=choices)


def ask_relation(rng: random.Random, scene: Scene) -> str | None:
    """What is on or beside an object that is not there, or on which side of another it is."""
    ways = shuffled(rng, (ask_what_is_on, ask_what_is_beside, ask_which_side))
    return next((text for way in ways if (text := way(rng, scene))), None)


def ask_what_is_on(rng: random.Random, scene: Scene) -> str | None:
    """What is on a table or a bed that is not there."""
    holders = [name for name in absent_kinds(scene) if KINDS[name].support]
    return choose_form(rng, 'on', it=rng.choice(holders)) if holders else None


def ask_what_is_beside(rng: random.Random, scene: Scene) -> str:
    return choose_form(rng, 'beside', it=absent_object(rng, scene), side=rng.choice((LEFT, RIGHT)))


def ask_which_side(rng: random.Random, scene: Scene) -> str | None:
    pair = absent_and_present(rng, scene)
    return choose_form(rng, 'which side', it=pair[0], other=pair[1]) if pair else None


def ask_comparison(rng: random.Random, scene: Scene) -> str | None:
    """Which of two objects is larger, smaller, further left or right."""
    which, polite, plain = rng.choice(COMPARISONS)
    pair = absent_and_present(rng, scene, size=which.endswith('있는'))
    if pair is None:
        return None
    return choose_form(rng, 'comparison', it=pair[0], other=pair[1], which=which, polite=polite, plain=plain)


def absent_and_present(rng: random.Random, scene: Scene, *, size: bool = True) -> list[Noun] | None:
    """Two objects in random order, one of a kind that is absent; None = no phrase fits a single object of the scene.

    A red sofa in place of the absent kind would not do: it may be the blue one that is there.
    """
    found = (refer_to(rng, scene, obj, size=size) for obj in shuffled(rng, scene.objects))
    present = next((phrase for phrase in found if phrase), None)
    return None if present is None else rng.sample((present, rng.choice(absent_kinds(scene))), 2)


def ask_kind_of_color(rng: random.Random, scene: Scene) -> str | None:
    """What has a color that nothing has. Not green where a plant, whose leaves are green, could be meant."""
    used = {obj.color.name for obj in scene.objects} | ({'초록색'} if scene.count(KINDS['화분']) else set())
    color = rng.choice([color for name, color in COLORS.items() if name not in used])
    return choose_form(rng, 'kind of color', that_is=color.that_is, color=color.name)


COMPARISONS = (
    ('큰', '큰가요', '커'),
    ('작은', '작은가요', '작아'),
    *((f'{side}에 있는', f'{side}에 있나요', f'{side}에 있어') for side in (LEFT, RIGHT)),
)
WRITERS: dict[str, Callable[[random.Random, Scene], str | None]] = {  # by the type of the answerable questions
    '색': ask_color, '위치': ask_position, '관계': ask_relation, '비교': ask_comparison, '종류': ask_kind_of_color,
}  # fmt: skip


def write_unanswerable(scene: Scene, seed: int, split: str, index: int) -> list[Question]:
    """Two questions of different types about a scene, whose answer type is `unanswerable`."""
    rng = seeded_rng('kovilt rooms unanswerable', seed, split, index)
    texts = (text for ask in shuffled(rng, list(WRITERS.values())) if (text := ask(rng, scene)))
    return [Question(text, NO_ANSWER, UNANSWERABLE) for text in itertools.islice(texts, QUESTIONS)]
