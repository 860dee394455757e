"""Image files and data sets that cost what real ones cost: JPEGs like photographs, and sets in AI-Hub 101's layout."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import IMAGE_SIZES

if TYPE_CHECKING:
    import numpy as np

SUBSET = '개인생활환경 이미지 수집'
QUESTIONS_PER_IMAGE = 7  # the mean of AI-Hub 101
IMAGES_PER_ZIP = 500_000
OBJECTS = ('소파', '의자', '탁자', '침대', '램프', '텔레비전', '냉장고', '화분', '책', '시계', '창문', '고양이')
PLACES = ('거실', '주방', '침실', '현관', '베란다', '욕실', '서재')
QUESTIONS = (
    '{} 안에 있는 {} 무슨 색입니까',
    '{}에 {} 몇 개 있습니까',
    '{}에서 {} 옆에 무엇이 보이나요',
    '{}에 {} 있어',
)


# Texts


def train_tokenizer(folder: Path) -> Path:
    """Train a tokenizer of 1,000 tokens on the words of the questions; returns `folder`."""
    from kovilt.datasets import train_tokenizer

    texts = [question.format(place, name) for question in QUESTIONS for place in PLACES for name in OBJECTS]
    train_tokenizer([*texts, *(f'{number}번' for number in range(2000))], folder, vocab_size=1000)
    return folder


def sample_question(rng: random.Random, number: int | None = None) -> str:
    """A question about a numbered place; a number of its own makes it unlike every other question."""
    number = rng.randrange(2000) if number is None else number
    return rng.choice(QUESTIONS).format(f'{number}번 {rng.choice(PLACES)}', rng.choice(OBJECTS))


# Images


def natural_pixels(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (height, width, 3) whose JPEG is as large and as slow to decode as a photograph's (100 to 150 KB).

    Amplitudes fall with frequency as those of photographs do, the channels share most of the brightness, and fine noise
    stands for that of a sensor.
    """
    import numpy as np

    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    layers = []
    for _ in range(4):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        layer = np.fft.irfft2(phase / frequency, s=(height, width))
        layers.append(layer / layer.std())
    brightness, *colours = layers
    pixels = np.stack([0.8 * brightness + 0.35 * colour for colour in colours], axis=-1)
    return (120 + 45 * pixels + rng.normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8)


def write_jpeg(file: Path, size: tuple[int, int], seed: int) -> Path:
    """Write `natural_pixels` of (width, height) as a JPEG; returns the file."""
    import numpy as np
    from PIL import Image

    Image.fromarray(natural_pixels(*size, np.random.default_rng(seed))).save(file, quality=88)
    return file


def write_jpegs(folder: Path, count: int) -> list[Path]:
    """JPEGs of COCO's sizes in their shares; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = random.Random(0).choices(list(IMAGE_SIZES), list(IMAGE_SIZES.values()), k=count)
    return [write_jpeg(folder / f'{number:032x}.jpg', size, number) for number, size in enumerate(sizes)]


# Data sets


def write_jpeg_set(folder: Path, images: int) -> list[Path]:
    """A training split in AI-Hub 101's layout with photographs as files; returns the files of the images."""
    place = PLACES[0]
    files = write_jpegs(folder / 'Training' / SUBSET / place, images)
    rng = random.Random(0)
    texts = [(sample_question(rng), rng.choice(OBJECTS)) for _ in range(images * QUESTIONS_PER_IMAGE)]
    _write_labels(folder, ((file.name, place) for file in files), iter(texts))
    return files


def write_zip_set(folder: Path, rows: int) -> None:
    """A training split in AI-Hub 101's layout with tiny images in zips, for `rows` questions of which none repeats.

    Nine of ten answers are frequent ones, the others occur about twice each.
    """
    from PIL import Image

    rng, jpeg = random.Random(0), io.BytesIO()
    Image.new('RGB', (32, 32), 'gray').save(jpeg, 'JPEG')
    names = [f'{rng.getrandbits(128):032x}.jpg' for _ in range(-(-rows // QUESTIONS_PER_IMAGE))]
    images = [(name, PLACES[number % len(PLACES)]) for number, name in enumerate(names)]
    (folder / 'Training').mkdir(parents=True)
    for number, first in enumerate(range(0, len(images), IMAGES_PER_ZIP), 1):
        with zipfile.ZipFile(folder / 'Training' / f'{SUBSET}_{number}.zip', 'w') as archive:
            for name, place in images[first : first + IMAGES_PER_ZIP]:
                archive.writestr(f'{SUBSET}/{place}/{name}', jpeg.getvalue())

    def texts() -> Iterator[tuple[str, str]]:
        for number in range(rows):
            question = sample_question(rng, number)
            yield question, rng.choice(OBJECTS) if rng.random() < 0.9 else f'{number // 20} 개'

    _write_labels(folder, iter(images), texts())


def _write_labels(folder: Path, images: Iterator[tuple[str, str]], texts: Iterator[tuple[str, str]]) -> None:
    """The label file: (file name, place) of each image, then (question, answer) of its questions, image by image.

    Written entry by entry, as a set of the paper's size would take gigabytes as Python objects.
    """
    labels = folder / 'Training' / f'[라벨]{SUBSET}'
    labels.mkdir()
    with open(labels / f'{SUBSET}.json', 'w', encoding='utf-8') as file:
        file.write('{"images": [\n')
        _write_entries(
            file,
            (
                {'image_id': number, 'image': name, 'category': place, 'weather': '그외'}
                for number, (name, place) in enumerate(images)
            ),
        )
        file.write('],\n"question": [\n')
        _write_entries(
            file,
            (
                {
                    'question_id': 7_000_000 + number,
                    'image_id': number // QUESTIONS_PER_IMAGE,
                    'question': question,
                    'answer': answer,
                    'answer_type': '기타',
                }
                for number, (question, answer) in enumerate(texts)
            ),
        )
        file.write(']}\n')


def _write_entries(file: io.TextIOBase, entries: Iterator[dict[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        file.write((',\n' if number else '') + json.dumps(entry, ensure_ascii=False))
