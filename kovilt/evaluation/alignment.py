"""Word-patch alignment (section 3, loss L3) scored against the boxes of Rooms.

A word that names an object is aligned correctly if the patch to which the transport plan sends most of its mass lies
in an object of that name. The share of such words is compared with two baselines: that of a random patch, and the
swapped share, that of the patches of the other object words of the image. Even an untrained model sends mass to salient
patches, which lie in objects, and so exceeds the random baseline; only a model that distinguishes words exceeds the
swapped one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import bootstrap_interval
from kovilt.files import read_json_lines

# What may follow a noun in its eojeol: the plural, particles (several, as in -에서는), the copula, punctuation.
_SUFFIX = re.compile(
    r'들?'
    r'(?:으로|로|에서|에게|에|은|는|이랑|랑|이나|나|이|가|을|를|의|와|과|하고|도|만|뿐|보다|처럼|까지|부터|마다|밖에|쪽)*'
    r'(?:이?(?:다|에요|예요|고|며|라|라고|지|지요|죠|네|네요|야|니|었다|었어요|였다|였어요)|입니다|입니까|인|인가|인가요|인데|일까|일까요)?'
    r'\W*'
)
# Names that are counters after a numeral: 개 in 의자 두 개 is not a dog.
_COUNTERS = frozenset('개 대 권 장 병 잔 벌 채 자루 마리 송이 그루 켤레'.split())
_NUMERAL = re.compile(r'\d+|한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|열한|열두|스무|몇|여러')


def find_object_words(text: str, names: Collection[str]) -> list[tuple[int, str]]:
    """The (eojeol number, name) of each eojeol that is the name of an object, with or without particles.

    The longest name that fits is taken: 책상은 is a 책상, not a 책, when both are names; 책꽂이 is neither.
    """
    longest_first = sorted(names, key=len, reverse=True)
    found, before = [], ''
    for number, word in enumerate(text.split()):
        bare = word.lstrip('"\'“‘(')
        name = next((n for n in longest_first if bare.startswith(n) and _SUFFIX.fullmatch(bare, len(n))), None)
        if name is not None and not (name in _COUNTERS and _NUMERAL.fullmatch(before)):
            found.append((number, name))
        before = word
    return found


def patches_in_boxes(grid: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """bool (P,), row by row: whether the center of a patch lies in one of the boxes.

    `boxes` (K, 4) are x0, y0, x1, y1 as shares of width and height, so that the size of the image does not matter.
    """
    rows, columns = grid
    y, x = np.divmod(np.arange(rows * columns), columns)
    x, y = (x[:, None] + 0.5) / columns, (y[:, None] + 0.5) / rows  # (P, 1)
    x0, y0, x1, y1 = boxes.reshape(-1, 4).T  # each (K,)
    inside = ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).any(axis=1)
    return np.asarray(inside)


class WordAlignment(NamedTuple):
    """Where the transport plan sends an object word."""

    name: str  # of the object
    patch: int  # the patch that receives most of the mass of the word
    inside: np.ndarray  # bool (P,): whether a patch lies in an object of that name


def align_words(
    plan: np.ndarray,
    word_ids: np.ndarray,
    grid: tuple[int, int],
    text: str,
    boxes: Mapping[str, np.ndarray],
    names: Collection[str],
) -> list[WordAlignment]:
    """The alignment of each word of `text` that names an object of the image.

    The mass of a word is the sum over its tokens.

    Args:
        plan: transported mass, float (L, P), of L tokens and P = rows * columns patches in row-major order.
        word_ids: int (L,), the eojeol of each token, -1 on tokens outside words.
        grid: rows and columns of patches.
        boxes: name -> boxes (K, 4) of the objects of the image, as shares of width and height.
        names: all object names of the data set, of which the longest that fits is taken.
    """
    if plan.shape != (len(word_ids), grid[0] * grid[1]):
        raise ValueError(f'plan {plan.shape} does not fit {len(word_ids)} tokens and a grid of {grid}')
    found = []
    for number, name in find_object_words(text, names):
        tokens = word_ids == number
        if name in boxes and tokens.any():  # a word beyond max_text_len has no tokens
            patch = int(plan[tokens].sum(axis=0).argmax())
            found.append(WordAlignment(name, patch, patches_in_boxes(grid, boxes[name])))
    return found


def score_word_alignments(
    images: Sequence[Sequence[WordAlignment]], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The share of object words that are aligned with their object, over the words of all `images`.

    Returns:
        in percent `alignment_accuracy`, its 95 % `alignment_interval` (images are resampled) and the baselines
        `alignment_random` and `alignment_swapped` (None when no image has words of two names); the numbers of `words`
        and `images`; `per_name`, for each name [accuracy, random baseline, words].

    Raises:
        KoviltError: there is no object word.
    """
    images = [words for words in images if words]
    if not images:
        raise KoviltError('no object word to score: no text names an object of its image; check the boxes file')
    words = [word for image in images for word in image]
    hits = np.array([word.inside[word.patch] for word in words], float)
    inside_shares = np.array([word.inside.mean() for word in words])
    swapped = [
        word.inside[others].mean()
        for image in images
        for word in image
        if (others := [other.patch for other in image if other.name != word.name])
    ]
    image_of_word = np.repeat(np.arange(len(images)), [len(image) for image in images])
    interval = bootstrap_interval(100 * hits, image_of_word, resamples=resamples, seed=seed)
    names = np.array([word.name for word in words])
    return {
        'alignment_accuracy': float(100 * hits.mean()),
        'alignment_random': float(100 * inside_shares.mean()),
        'alignment_swapped': float(100 * np.mean(swapped)) if swapped else None,
        'alignment_interval': list(interval),
        'words': len(words),
        'images': len(images),
        'per_name': {
            str(name): [float(100 * hits[own].mean()), float(100 * inside_shares[own].mean()), int(own.sum())]
            for name, own in ((name, names == name) for name in np.unique(names))
        },
    }


def read_boxes(path: str | Path) -> tuple[dict[str, dict[str, np.ndarray]], set[str]]:
    """Read the boxes file of Rooms.

    Each line describes an image: {"file", "coco_file", "width", "height", "objects": [{"name", "box"}]}, where a box
    is [x0, y0, x1, y1] in pixels.

    Returns:
        file name of an image (both names, without folders) -> name of an object -> its boxes (K, 4) as shares of width
        and height; and the names of all objects.

    Raises:
        KoviltError: a missing or malformed file.
    """
    if not Path(path).is_file():
        raise KoviltError(f'{path}: no boxes file; kovilt rooms writes one as boxes.jsonl')
    images: dict[str, dict[str, np.ndarray]] = {}
    names: set[str] = set()
    for number, image in read_json_lines(path, 'table'):
        try:
            sides = np.array([image['width'], image['height']] * 2, float)
            boxes: dict[str, list] = {}
            for item in image['objects']:
                boxes.setdefault(item['name'], []).append(item['box'])
            shares = {name: np.array(found, float) / sides for name, found in boxes.items()}
            if not (sides > 0).all() or any(found.shape[1:] != (4,) for found in shares.values()):
                raise ValueError('sides above 0 and boxes of four numbers are needed')
            images |= {Path(image[key]).name: shares for key in ('file', 'coco_file') if key in image}
        except (ValueError, KeyError, TypeError) as error:
            raise KoviltError(f'{path}, line {number}: not an image with its boxes ({error!r})') from error
        names |= shares.keys()
    return images, names


class AlignmentModel(Protocol):
    """The parts of `ViLTForPreTraining` that scoring needs; `align` gives the transport plans (B, L, P) first."""

    training: bool

    def align(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]: ...
    def train(self, mode: bool) -> Any: ...


def score_alignment(
    model: AlignmentModel,
    batches: Iterable[Sequence[Batch]],
    boxes: str | Path,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the word-patch alignment of a pre-training model on captions of Rooms; see `score_word_alignments`.

    Args:
        model: a `ViLTForPreTraining` with its alignment head.
        batches: output of the data loader of a caption dataset with keep_record=True.
        boxes: Rooms' boxes.jsonl.
    """
    images, names = read_boxes(boxes)
    found: dict[str, list[WordAlignment]] = {}
    was_training = model.training
    model.train(False)
    try:
        for batch in (batch for micro_batches in batches for batch in micro_batches):
            plans = model.align(batch)[0].float().cpu().numpy()  # (B, L, P)
            word_ids, image_index = batch['word_ids'].numpy(), batch['image_index'].tolist()
            for plan, ids, image, record in zip(plans, word_ids, image_index, batch['records'], strict=True):
                rows, columns = batch['grids'][image].tolist()
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
    return score_word_alignments(list(found.values()), resamples=resamples, seed=seed)
