"""Multiple-choice questions about a scene: options of one kind, of which the drawn image fits one.

Options stand in random order. Words alone do not tell the answer: options of a question are all colors, all kinds, ...;
those that name color and kind are the four combinations of two kinds and two colors; sentences differ in their colors
alone.

A fifth of the combinations of kind and color is held out (`held_out_combinations`): no option of the training split
names one, so that the questions of type UNSEEN, in the validation split alone, have options that no training has seen.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, read_json
from kovilt.processes import map_in_processes
from kovilt.rooms.captions import NUMERALS, caption_places
from kovilt.rooms.questions import Question, write_questions
from kovilt.rooms.scene import CENTER, COLORS, KINDS, LEFT, RIGHT, Scene, sample_scene, seeded_rng
from kovilt.rooms.write import CHUNK, MAX_QUESTIONS, SUMMARY_FILE, VERSION, coco_name, json_line, open_text

FOLDER = 'choices'
SEEN, UNSEEN, SENTENCE = '색과 종류', '처음 보는 색과 종류', '문장'  # types beside those of `write_questions`
NUM_OPTIONS = 4
ORDINARY = 3  # of the questions of `write_questions` for an image, sampled
_TRIES = 50  # to find other colors for a sentence
HELD_OUT_COLORS = 2  # of each pair of kinds: 9 x 2 x 2 of 180 combinations
FORMS = (
    '사진에 있는 것은 무엇인가요?', '사진 속에 무엇이 있습니까?', '여기에 뭐가 있어?', '이 방에 무엇이 보이나요?',
    '사진에서 볼 수 있는 것은 무엇입니까?', '무엇이 있나요?',
)  # fmt: skip
Combination = tuple[str, str]  # name of a kind, name of a color


class ChoiceRow(NamedTuple):
    """A question with its options, the answer, which is one of them, and its type."""

    question: str
    options: list[str]
    answer: str
    answer_type: str


def held_out_combinations(seed: int) -> frozenset[Combination]:
    """The combinations that no option of training names: of each of nine pairs of kinds, both kinds in two colors."""
    return frozenset((kind, color) for kinds, colors in _held_out_blocks(seed) for kind in kinds for color in colors)


@functools.cache
def _held_out_blocks(seed: int) -> list[tuple[list[str], list[str]]]:
    rng = seeded_rng('kovilt rooms held out', seed)
    kinds = rng.sample(list(KINDS), len(KINDS))
    return [(kinds[i : i + 2], rng.sample(list(COLORS), HELD_OUT_COLORS)) for i in range(0, len(kinds), 2)]


def options_of(rng: random.Random, scene: Scene, asked: Question) -> list[str]:
    """The options of a question, the answer among them, in no particular order.

    Kinds and colors that are in the image come first, since guessing among those needs the image most.
    """
    if asked.answer in ('예', '아니요'):
        return ['예', '아니요']
    if asked.answer_type == '위치':
        return [LEFT, CENTER, RIGHT]
    if asked.answer in (LEFT, RIGHT):
        return [LEFT, RIGHT]
    if asked.answer_type == '개수':
        return [count_text(asked, number) for number in range(1, NUM_OPTIONS + 1)]
    if asked.answer_type == '비교':
        return [name for name in KINDS if name in asked.text]
    names = COLORS if asked.answer in COLORS else KINDS
    present = {obj.color.name if asked.answer in COLORS else obj.kind.name for obj in scene.objects}
    others = [name for name in rng.sample(list(names), len(names)) if name != asked.answer and name not in asked.text]
    others.sort(key=lambda name: name not in present)
    return [asked.answer, *others[: NUM_OPTIONS - 1]]


def answer_of(asked: Question) -> str:
    """The answer of a question as an option."""
    return count_text(asked, int(asked.answer)) if asked.answer_type == '개수' else asked.answer


def count_text(asked: Question, number: int) -> str:
    """두 마리: a number with the counter of the kind that a question counts. Captions, too, have no digits."""
    kind = next(kind for name, kind in KINDS.items() if name in asked.text)
    return f'{NUMERALS[number]} {kind.counter}'


def ask_combination(rng: random.Random, scene: Scene, seed: int, *, unseen: bool) -> ChoiceRow | None:
    """Which of four combinations of kind and color is in the image; `unseen` = of the held-out ones."""
    present = {(str(obj.kind.name), str(obj.color.name)) for obj in scene.objects}
    held_out = held_out_combinations(seed)
    for kind, color in rng.sample(sorted(present), len(present)):
        if ((kind, color) in held_out) is not unseen:
            continue
        if unseen:
            blocks = [block for block in _held_out_blocks(seed) if kind in block[0]]
        else:
            blocks = [([kind, other], [color, another]) for other in KINDS for another in COLORS]
        possible = []
        for kinds, colors in blocks:
            options = {(one, tint) for one in kinds for tint in colors}
            fits = unseen or not options & held_out
            if len(options) == NUM_OPTIONS and fits and options & present == {(kind, color)}:
                nearby = {one for one, _ in present} >= set(kinds) and {tint for _, tint in present} >= set(colors)
                possible.append((nearby, sorted(options)))
        if possible:
            best = [options for nearby, options in possible if nearby] or [options for _, options in possible]
            texts = {option: f'{COLORS[option[1]].attribute} {option[0]}' for option in rng.choice(best)}
            answer = texts[kind, color]
            return ChoiceRow(rng.choice(FORMS), list(texts.values()), answer, UNSEEN if unseen else SEEN)
    return None


def ask_sentence(rng: random.Random, scene: Scene, seed: int) -> ChoiceRow | None:
    """Which of four sentences describes the image: those that do not have other colors, which are not in the image.

    Sentences name one or two objects, and no held-out combination.
    """
    held_out = held_out_combinations(seed)

    def is_seen(number: int, color: str) -> bool:
        return (scene.objects[number].kind.name, color) not in held_out

    numbers = [number for number, obj in enumerate(scene.objects) if is_seen(number, obj.color.name)]
    if not numbers:
        return None
    chosen = rng.sample(numbers, min(len(numbers), 2))
    used = sorted({str(obj.color.name) for obj in scene.objects})
    form_seed = rng.random()  # one generator for all, so that all sentences have the same form

    def describe(colors: Sequence[str]) -> str:
        color_of = dict(zip(used, colors, strict=True))
        objects = tuple(replace(obj, color=COLORS[color_of[obj.color.name]]) for obj in scene.objects)
        named = [objects[number] for number in chosen]
        return caption_places(random.Random(form_seed), replace(scene, objects=objects), named)[1]

    texts = {describe(used): None}
    for _ in range(_TRIES):
        colors = rng.sample(sorted(set(COLORS) - set(used)), len(used))
        if all(is_seen(number, colors[used.index(scene.objects[number].color.name)]) for number in chosen):
            texts[describe(colors)] = None
        if len(texts) == NUM_OPTIONS:
            return ChoiceRow(rng.choice(FORMS), list(texts), next(iter(texts)), SENTENCE)
    return None


def write_choice_questions(scene: Scene, seed: int, split: str, index: int) -> list[ChoiceRow]:
    """The multiple-choice questions of an image: some of its ordinary ones, a combination and a sentence."""
    rng = seeded_rng('kovilt rooms choices', seed, split, index)
    ordinary = write_questions(scene, seed, split, index)
    rows: list[ChoiceRow | None] = [
        ChoiceRow(one.text, options_of(rng, scene, one), answer_of(one), one.answer_type)
        for one in rng.sample(ordinary, min(ORDINARY, len(ordinary)))
    ]
    rows += [ask_combination(rng, scene, seed, unseen=False), ask_sentence(rng, scene, seed)]
    if split == 'val':
        rows.append(ask_combination(rng, scene, seed, unseen=True))
    return [row._replace(options=rng.sample(row.options, len(row.options))) for row in rows if row]


def choice_lines(seed: int, alone: float, job: tuple[str, int]) -> str:
    """The lines of the table for the questions about one image."""
    split, index = job
    scene = sample_scene(seed, split, index, alone=alone if split == 'train' else 0.0)
    image_id, image = coco_name(split, index)
    return ''.join(
        json_line(image=f'../captions/{image}', question_id=image_id * MAX_QUESTIONS + number, **row._asdict()) + '\n'
        for number, row in enumerate(write_choice_questions(scene, seed, split, index))
    )


def write_choices(
    root: str | Path, *, workers: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> bool:
    """Write `choices/train.jsonl` and `choices/val.jsonl` into a Rooms folder, for `ChoiceReader(allow_outside=True)`.

    Args:
        root: a folder of `make_rooms`. The same folder gives the same bytes.
        workers, progress: as for `make_rooms`.

    Returns:
        False when they are there already.

    Raises:
        KoviltError: no Rooms of this version, or the files cannot be written.
    """
    root = Path(root)
    rooms = read_json(root / SUMMARY_FILE)
    if rooms.get('version') != VERSION:
        raise KoviltError(f'{root}: Rooms of version {rooms.get("version")}, not {VERSION}; draw them anew')
    out = root / FOLDER
    if out.is_dir() and any(out.iterdir()):
        return False
    with atomic_folder(out) as draft:
        done, total = 0, rooms['images'] + rooms['val_images']
        for split, count in (('train', rooms['images']), ('val', rooms['val_images'])):
            work = functools.partial(choice_lines, rooms['seed'], rooms['alone'])
            with open_text(draft / f'{split}.jsonl') as file:
                jobs = [(split, index) for index in range(count)]
                for lines in map_in_processes(work, jobs, workers=workers, chunk_size=CHUNK):
                    file.write(lines)
                    done += 1
                    progress(done, total)
    return True
