"""Does a word look at its object? Word-patch alignment (section 3, loss L3) scored against the boxes of drawn scenes.

For each object word of a text, the patch that receives most of its transported mass should lie in an object of that
name. Two figures stand beside that share: chance, what a patch drawn blindly would reach on the same words, and the
swapped score, what the patches of the image's other object words reach. Even an untrained model sends mass to patches
that stand out, which are objects, and so beats chance; only a model that tells words apart beats the swapped score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import bootstrap_interval

# What may follow a noun within its eojeol: the plural, particles (stacked, as in -에서는), the copula, punctuation.
_TAIL = re.compile(
    r'들?'
    r'(?:으로|로|에서|에게|에|은|는|이랑|랑|이나|나|이|가|을|를|의|와|과|하고|도|만|뿐|보다|처럼|까지|부터|마다|밖에|쪽)*'
    r'(?:이?(?:다|에요|예요|고|며|라|라고|지|지요|죠|네|네요|야|니|었다|었어요|였다|였어요)|입니다|입니까|인|인가|인가요|인데|일까|일까요)?'
    r'\W*'
)
# Names that after a numeral count things: 개 in 의자 두 개 is no dog.
_COUNTERS = frozenset('개 대 권 장 병 잔 벌 채 자루 마리 송이 그루 켤레'.split())
_NUMERAL = re.compile(r'\d+|한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|열한|열두|스무|몇|여러')


def object_words(text: str, names: Collection[str]) -> list[tuple[int, str]]:
    """The (eojeol number, name) of each eojeol that is an object's name with or without a particle.

    The longest name that fits wins, so 책상은 is a 책상 and never a 책 when both are names; 책꽂이 is neither.
    """
    longest_first = sorted(names, key=len, reverse=True)
    found, before = [], ''
    for number, word in enumerate(text.split()):
        bare = word.lstrip('"\'“‘(')
        name = next((n for n in longest_first if bare.startswith(n) and _TAIL.fullmatch(bare, len(n))), None)
        if name is not None and not (name in _COUNTERS and _NUMERAL.fullmatch(before)):
            found.append((number, name))
        before = word
    return found


def patches_inside(grid: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """bool (P,): patches, row by row, whose centre lies in one of the boxes.

    `boxes` (K, 4) are x0, y0, x1, y1 in shares of the sides. The patches tile the resized image, so shares of its
    sides need no knowledge of either size.
    """
    rows, columns = grid
    y, x = np.divmod(np.arange(rows * columns), columns)
    x, y = (x[:, None] + 0.5) / columns, (y[:, None] + 0.5) / rows  # (P, 1)
    x0, y0, x1, y1 = boxes.reshape(-1, 4).T  # each (K,)
    return ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).any(axis=1)


class WordAlignment(NamedTuple):
    """Where an object word looks: its name, its patch, and bool (P,), which patches lie in an object of that name."""

    name: str
    patch: int
    inside: np.ndarray


def align_words(
    plan: np.ndarray,
    word_ids: np.ndarray,
    grid: tuple[int, int],
    text: str,
    boxes: Mapping[str, np.ndarray],
    names: Collection[str],
) -> list[WordAlignment]:
    """Where each word of `text` looks that names an object of the image.

    Args:
        plan: transported mass, float (L, P), of L tokens and P = rows * columns patches in row-major order.
        word_ids: int (L,), the number of each token's eojeol, -1 on tokens that belong to none.
        boxes: by name, the boxes (K, 4) of the image's objects in shares of its sides.
        names: every object name of the whole set, so that the longest can win.
    """
    if plan.shape != (len(word_ids), grid[0] * grid[1]):
        raise ValueError(f'plan {plan.shape} does not fit {len(word_ids)} tokens and a grid of {grid}')
    found = []
    for number, name in object_words(text, names):
        pieces = word_ids == number
        if name in boxes and pieces.any():  # a word cut off by the length limit has no pieces
            found.append(WordAlignment(name, int(plan[pieces].sum(axis=0).argmax()), patches_inside(grid, boxes[name])))
    return found


def alignment_score(
    images: Sequence[Sequence[WordAlignment]], *, resamples: int = 1000, seed: int = 0
) -> dict[str, float | int | list[float] | dict | None]:
    """Share of object words that look at their object, in percent, over the words of all `images`.

    Returns `alignment_accuracy`, `alignment_chance`, `alignment_swapped` (None when no image has words of two names),
    the 95 % `alignment_interval` of the accuracy, the numbers of `words` and `images`, and `per_name`, the
    [accuracy, chance, words] of each name. The interval redraws images, as the words of one are not independent.
    """
    images = [words for words in images if words]
    if not images:
        raise KoviltError('no object word to score: no text names an object of its image; check the boxes file')
    words = [word for image in images for word in image]
    hits = np.array([word.inside[word.patch] for word in words], float)
    chances = np.array([word.inside.mean() for word in words])
    swapped = [
        word.inside[others].mean()
        for image in images
        for word in image
        if (others := [other.patch for other in image if other.name != word.name])
    ]
    owners = np.repeat(np.arange(len(images)), [len(image) for image in images])
    interval = bootstrap_interval(100 * hits, owners, resamples=resamples, seed=seed)
    names = np.array([word.name for word in words])
    return {
        'alignment_accuracy': float(100 * hits.mean()),
        'alignment_chance': float(100 * chances.mean()),
        'alignment_swapped': float(100 * np.mean(swapped)) if swapped else None,
        'alignment_interval': list(interval),
        'words': len(words),
        'images': len(images),
        'per_name': {
            str(name): [float(100 * hits[own].mean()), float(100 * chances[own].mean()), int(own.sum())]
            for name, own in ((name, names == name) for name in np.unique(names))
        },
    }


def read_boxes(path: str | Path) -> tuple[dict[str, dict[str, np.ndarray]], set[str]]:
    """The objects that Rooms drew, and all their names.

    Each line of the file is an image: {"file", "coco_file", "width", "height", "objects": [{"name", "box"}]}, a box
    being [x0, y0, x1, y1] in pixels. Returns, under both file names of the image (without folders), the boxes (K, 4)
    of each name in shares of the image's sides.
    """
    path = Path(path)
    if not path.is_file():
        raise KoviltError(f'{path}: no boxes file; tools/data/make_rooms.py writes one as boxes.jsonl')
    images: dict[str, dict[str, np.ndarray]] = {}
    names: set[str] = set()
    with path.open(encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            try:
                image = json.loads(line)
                sides = np.array([image['width'], image['height']] * 2, float)
                boxes: dict[str, list] = {}
                for thing in image['objects']:
                    boxes.setdefault(thing['name'], []).append(thing['box'])
                shares = {name: np.array(found, float).reshape(-1, 4) / sides for name, found in boxes.items()}
                images |= {Path(image[key]).name: shares for key in ('file', 'coco_file') if key in image}
            except (ValueError, KeyError, TypeError) as error:
                raise KoviltError(f'{path}, line {number}: not an image with its boxes ({error!r})') from error
            names |= shares.keys()
    return images, names


def score_alignment(
    model: nn.Module, batches: Iterable[Sequence[dict]], boxes: str | Path, *, resamples: int = 1000, seed: int = 0
) -> dict[str, float | int | list[float] | dict | None]:
    """Scores the word-patch alignment of a pre-training model on captions of drawn scenes; see `alignment_score`.

    Args:
        model: a `ViLTForPreTraining` with its alignment head.
        batches: a data loader's output for a caption set read with keep_record=True.
        boxes: Rooms' boxes.jsonl.
    """
    images, names = read_boxes(boxes)
    found: dict[str, list[WordAlignment]] = {}
    was_training = model.training
    model.eval()
    try:
        for batch in (batch for micro_batches in batches for batch in micro_batches):
            plans = model.align(batch)[0].float().cpu().numpy()  # (B, L, P)
            grids, index, word_ids = (batch[key].numpy() for key in ('grids', 'image_index', 'word_ids'))
            for plan, ids, place, record in zip(plans, word_ids, index, batch['records'], strict=True):
                rows, columns = map(int, grids[place])
                if not rows * columns:  # a broken image has no patches
                    continue
                file = Path(record['image']).name
                if file not in images:
                    raise KoviltError(f'{boxes}: no boxes for {record["image"]}; is it the boxes file of another set?')
                found.setdefault(file, []).extend(
                    align_words(plan[:, : rows * columns], ids, (rows, columns), record['text'], images[file], names)
                )
    finally:
        model.train(was_training)
    return alignment_score(list(found.values()), resamples=resamples, seed=seed)
