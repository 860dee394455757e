"""Questions that an image does not answer, because they are about something that is not there.

They ask for the color or the side of an object, or for what is on or beside it. The object is of an absent kind or, in
half of the questions that may name its color, of a kind that is there in other colors alone. How many there are is
never asked: that has an answer, none. Forms and words are those of answerable questions, so that the words alone do not
tell the two apart.
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
_COLOR_SHARE, _SIZE_SHARE = 0.3, 0.15  # as in `refer_to`


def absent_object(rng: random.Random, scene: Scene, *, color: bool = True) -> Noun:
    """A phrase that fits no object of the scene; `color=False` leaves a color out, because the question asks for it."""
    if color and rng.random() < 0.5:
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


def ask_what_is_on(rng: random.Random, scene: Scene) -> str | None:
    """What is on a table or a bed that is not there."""
    holders = [name for name in absent_kinds(scene) if KINDS[name].support]
    return choose_form(rng, 'on', it=rng.choice(holders)) if holders else None


def ask_what_is_beside(rng: random.Random, scene: Scene) -> str:
    return choose_form(rng, 'beside', it=absent_object(rng, scene), side=rng.choice((LEFT, RIGHT)))


def ask_which_side(rng: random.Random, scene: Scene) -> str | None:
    """On which side of another object something is, where one of the two is not there."""
    present = next((found for obj in shuffled(rng, scene.objects) if (found := refer_to(rng, scene, obj))), None)
    if present is None:
        return None
    # A kind of its own: a red sofa is on no side of a blue one that is the only sofa there.
    it, other = rng.sample((present, rng.choice(absent_kinds(scene))), 2)
    return choose_form(rng, 'which side', it=it, other=other)


WRITERS: tuple[Callable[[random.Random, Scene], str | None], ...] = (
    ask_color, ask_position, ask_what_is_on, ask_what_is_beside, ask_which_side,
)  # fmt: skip


def write_unanswerable(scene: Scene, seed: int, split: str, index: int) -> list[Question]:
    """Two questions of different forms about a scene, of answer type `unanswerable`."""
    rng = seeded_rng('kovilt rooms unanswerable', seed, split, index)
    texts = (text for ask in shuffled(rng, WRITERS) if (text := ask(rng, scene)))
    return [Question(text, NO_ANSWER, UNANSWERABLE) for text in itertools.islice(texts, QUESTIONS)]
