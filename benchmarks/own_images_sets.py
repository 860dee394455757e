"""The small sets of `own_images`: composed of images of single things, or parts of Rooms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kovilt.errors import KoviltError
from kovilt.rooms.particles import Noun

TINTS = {'빨간색': (230, 60, 60), '파란색': (60, 80, 230), '초록색': (60, 180, 80), '노란색': (230, 210, 60)}
VAL_IMAGES = 100


def write_set(source: Path, out: Path, images: int, seed: int, pairs: float = 0.0, *, noise: bool = False) -> None:
    """Write train.jsonl of `images` images, val.jsonl of 100 others, and the images.

    Args:
        noise: of each image only its size is kept; noise fills it.

    Raises:
        KoviltError: no such source, or it has too few images.
    """
    if not source.is_dir():
        raise KoviltError(f'{source}: no such folder')
    make = write_rooms if (source / 'rooms.json').is_file() else write_composed
    draft = out.with_name(f'{out.name}.draft')  # an interrupted set is not taken for a whole one
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for split, rows in make(source, draft, images, seed, pairs).items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (draft / f'{split}.jsonl').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    rng = np.random.default_rng(seed)
    for file in sorted(draft.glob('*.jpg')) if noise else ():
        width, height = Image.open(file).size
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
    draft.rename(out)


def write_rooms(source: Path, out: Path, images: int, seed: int, pairs: float) -> dict[str, list[dict[str, Any]]]:
    from kovilt.datasets import AIHubLivingReader

    rows = {}
    for split, count in (('train', images), ('val', VAL_IMAGES)):
        found = AIHubLivingReader(data_root=str(source / 'vqa'), split=split).read_rows()
        if len(found.images) < count:
            raise KoviltError(
                f'{source}: {len(found.images)} {split} images, {count} are needed; draw more by `kovilt rooms`'
            )
        chosen = set(np.random.default_rng(seed).permutation(len(found.images))[:count].tolist())
        numbers, columns = (
            found.row_images.tolist(),
            {key: found.columns[key].to_pylist() for key in ('question', 'answer')},
        )
        names = {}
        for number in sorted(chosen):
            names[number] = f'{split}_{number}.jpg'
            (out / names[number]).write_bytes(Path(found.images.name(number)).read_bytes())
        rows[split] = [
            {'image': names[number], 'question': columns['question'][row], 'answer': columns['answer'][row]}
            for row, number in enumerate(numbers)
            if number in chosen
        ]
    return rows


def write_composed(source: Path, out: Path, images: int, seed: int, pairs: float) -> dict[str, list[dict[str, Any]]]:
    files = sorted(file for file in source.iterdir() if file.suffix.lower() in ('.png', '.jpg', '.jpeg'))
    if len(files) < 4:
        raise KoviltError(f'{source}: {len(files)} images; at least 4 are needed, each named after what it shows')
    things = {file.stem: Image.open(file).convert('RGB') for file in files}
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, count in (('train', images), ('val', VAL_IMAGES)):
        rows[split] = []
        for number in range(count):
            name = f'{split}_{number}.jpg'
            image, shown = compose(things, pairs, rng)
            image.save(out / name, quality=90)
            rows[split] += [{'image': name, 'question': q, 'answer': a} for q, a in ask(shown, list(things), rng)]
    return rows


def compose(
    things: dict[str, Image.Image], pairs: float, rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[str, str]]]:
    """An image of one thing or two beside each other, and (thing, tint) of each, from left to right."""
    count = 1 + int(rng.random() < pairs)
    canvas = Image.new('RGB', (400, 300), tuple(rng.integers(90, 255, 3).tolist()))
    shown = []
    for place, number in enumerate(rng.choice(len(things), count, replace=False).tolist()):
        name, tint = list(things)[number], str(rng.choice(list(TINTS)))
        image = things[name]
        kept = [int(side * rng.uniform(0.75, 1)) for side in image.size]
        left, top = (int(rng.integers(full - side + 1)) for full, side in zip(image.size, kept, strict=True))
        image = image.crop((left, top, left + kept[0], top + kept[1]))
        room = 400 // count - 10
        image.thumbnail((int(room * rng.uniform(0.7, 1)), int(290 * rng.uniform(0.7, 1))))
        image = Image.blend(image, Image.new('RGB', image.size, TINTS[tint]), 0.35)
        x = place * 400 // count + int(rng.integers(0, 400 // count - image.width))
        canvas.paste(image, (x, int(rng.integers(0, 300 - image.height))))
        shown.append((name, tint))
    return canvas, shown


def ask(shown: list[tuple[str, str]], names: list[str], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    absent = [name for name in names if name not in dict(shown)]
    for name in (str(rng.choice(list(dict(shown)))), str(rng.choice(absent))):
        yield f'{Noun(name):이} 있어요?', '네' if name in dict(shown) else '아니요'
    thing, tint = shown[int(rng.integers(len(shown)))]
    yield f'{Noun(thing):은} 무슨 색이에요?', tint
    if len(shown) == 1:
        yield '무엇이 보여요?', thing
        return
    yield '왼쪽에 무엇이 있어요?', shown[0][0]
    yield '오른쪽에 무엇이 있어요?', shown[1][0]
    yield f'{Noun(thing):은} 어느 쪽에 있어요?', '왼쪽' if thing == shown[0][0] else '오른쪽'
