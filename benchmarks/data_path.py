"""What the way from files to batches costs: images, texts, whole epochs; against ViLT's transform and HuggingFace.

    python benchmarks/data_path.py
    python benchmarks/data_path.py --only texts

Makes its own data beneath a temporary folder: JPEGs that cost what photos cost (1/f noise of shared brightness, some
noise of a sensor, shapes as in COCO, 100 to 150 KB) in AI-Hub 101's layout, seven questions an image.

`images`: one core, an image after the other, by ViLT's transform (Pillow, ToTensor, Normalize), by HuggingFace's two
image processors and by kovilt's transforms; in turn, medians over the rounds. Resized pixels are compared with
Pillow's, and kovilt's may differ by two grey levels at most.
`epoch`: all questions once, in batches, by workers: HuggingFace's processor with its usual collate, which opens a
image for each question, against kovilt from files and from prepared data. The time is that of all processors.
`texts`: as many questions as the paper has, tokenized at a first start and mapped at a second one.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.dataset_memory import PHRASES, PLACES, SUBSET, THINGS  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.data import DataLoader

    from kovilt.datasets import QuestionDataset

PARTS = ('images', 'epoch', 'texts')
QUESTIONS_PER_IMAGE = 7
GPU_RATE = 3000  # samples a second that a GPU trains at, of which a core feeds a share
SHAPES = (  # of 20 images, as in COCO
    *[(640, 480)] * 8, *[(640, 427)] * 5, *[(480, 640)] * 3, *[(427, 640)] * 2, (500, 375), (640, 360),
)  # fmt: skip
RESIZE = {'short': 384, 'long': 639, 'divisor': 32}
LONGEST_TEXT = 40


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', choices=PARTS, action='append', help='measure this alone (may be given again)')
    parser.add_argument('--images', type=int, default=120, metavar='N', help='images of the set (120)')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each is measured (5)')
    parser.add_argument('--workers', type=int, default=2, metavar='N', help='of an epoch (2); 0 = this process')
    parser.add_argument('--batch-size', type=int, default=64, metavar='N', help='questions in a batch (64)')
    parser.add_argument('--questions', type=int, default=1_646_080, metavar='N', help='to tokenize (1646080)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    args = parser.parse_args(argv)
    for option, least in (('images', 1), ('rounds', 1), ('workers', 0), ('batch_size', 1), ('questions', 1)):
        if getattr(args, option) < least:
            parser.error(f'--{option.replace("_", "-")} must be at least {least}, not {getattr(args, option)}')
    return args


def main(args: argparse.Namespace) -> None:
    import cv2
    import torch
    from mmengine.logging import MMLogger

    from kovilt.datasets import train_tokenizer

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    MMLogger.get_instance('data_path', log_level='ERROR')  # what datasets say when they are opened
    parts = args.only or PARTS
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        texts = [phrase.format(place, thing) for phrase in PHRASES for place in PLACES for thing in THINGS]
        train_tokenizer([*texts, *(f'{number}번' for number in range(2000))], folder / 'tokenizer', vocab_size=1000)
        if {'images', 'epoch'} & set(parts):
            files = write_set(folder / 'set', args.images)
            size = statistics.mean(file.stat().st_size for file in files) / 1000
            print(f'{len(files)} images, {size:.0f} KB each, {QUESTIONS_PER_IMAGE} questions on each')
        if 'images' in parts:
            measure_images(files, args.rounds)
        if 'epoch' in parts:
            measure_epochs(folder, args)
        if 'texts' in parts:
            measure_texts(folder, args)


# The data.


def write_set(folder: Path, images: int) -> list[Path]:
    """A training split in AI-Hub 101's layout; returns the images' files."""
    import numpy as np
    from PIL import Image

    chance, words = np.random.default_rng(0), random.Random(0)
    files, labels = [], {'images': [], 'question': []}
    for number in range(images):
        place = PLACES[number % len(PLACES)]
        file = folder / 'Training' / SUBSET / place / f'{number:032x}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(*SHAPES[number % len(SHAPES)], chance)).save(file, quality=88)
        files.append(file)
        labels['images'].append({'image_id': number, 'image': file.name, 'category': place, 'weather': '그외'})
        for question in range(QUESTIONS_PER_IMAGE):
            labels['question'].append(
                {
                    'question_id': number * QUESTIONS_PER_IMAGE + question,
                    'image_id': number,
                    'question': draw_question(words),
                    'answer': words.choice(THINGS),
                    'answer_type': '기타',
                }
            )
    path = folder / 'Training' / f'[라벨]{SUBSET}' / f'{SUBSET}.json'
    path.parent.mkdir()
    path.write_text(json.dumps(labels, ensure_ascii=False), encoding='utf-8')
    return files


def draw_question(chance: random.Random) -> str:
    return chance.choice(PHRASES).format(f'{chance.randrange(2000)}번 {chance.choice(PLACES)}', chance.choice(THINGS))


def photo(width: int, height: int, chance: np.random.Generator) -> np.ndarray:
    """uint8 (height, width, 3): amplitudes fall with frequency as those of photos do; channels share most of it."""
    import numpy as np

    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    layers = []
    for _ in range(4):
        phase = np.exp(2j * np.pi * chance.random(frequency.shape))
        layer = np.fft.irfft2(phase / frequency, s=(height, width))
        layers.append(layer / layer.std())
    brightness, *colours = layers
    pixels = np.stack([0.8 * brightness + 0.35 * colour for colour in colours], axis=-1)
    return (120 + 45 * pixels + chance.normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8)


# Time.


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def in_turn(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(processor, wall) seconds of each run in every round; who begins moves on by one in each round."""
    names, seconds = list(runs), {name: [] for name in runs}
    for number in range(-1, rounds):  # the first one only warms up
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time.perf_counter(), processor_seconds()
            runs[name]()
            if number >= 0:
                seconds[name].append((processor_seconds() - cpu, time.perf_counter() - wall))
    return seconds


def ratio(slow: list[tuple[float, float]], fast: list[tuple[float, float]]) -> float:
    """Median over the rounds of how many times less of the processor `fast` takes."""
    return statistics.median(one[0] / other[0] for one, other in zip(slow, fast, strict=True))


def share(rate: float) -> str:
    return f'{rate / GPU_RATE:.1%} of {GPU_RATE:,}/s'


# Images.


def measure_images(files: list[Path], rounds: int) -> None:
    import numpy as np
    from PIL import Image
    from torchvision.transforms import Compose, Normalize, ToTensor

    from kovilt.datasets import LoadImage, Patchify, ResizeViLT
    from kovilt.datasets.transforms.patches import join_patches

    resize, patchify, normalize = (
        ResizeViLT(**RESIZE),
        Patchify(patch_size=32),
        Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]),
    )

    def by_pillow(file: Path) -> Image.Image:
        with Image.open(file) as image:
            image = image.convert('RGB')
        return image.resize(resize.target(*image.size), Image.Resampling.BICUBIC)

    load = LoadImage()

    def by_kovilt(file: Path) -> dict[str, Any]:
        return patchify(resize(load({'img_path': file})))

    ways: dict[str, Callable[[Path], Any]] = {'ViLT': lambda file: normalize(by_pillow(file))}
    differences: dict[str, Callable[[Path], np.ndarray]] = {}
    for name, processor in huggingface_processors().items():
        ways[name] = lambda file, processor=processor: processor(open_rgb(file), return_tensors='pt')
        differences[name] = lambda file, way=ways[name]: grey_levels(way(file)['pixel_values'][0])
    ways['kovilt'] = by_kovilt
    differences['kovilt'] = lambda file: join_patches(*(by_kovilt(file)[key] for key in ('patches', 'grid')))

    seconds = in_turn({name: lambda way=way: [way(file) for file in files] for name, way in ways.items()}, rounds)
    print('\nimages, one core                     us   images/s   times ViLT   largest difference to Pillow')
    for name, times in seconds.items():
        took = statistics.median(cpu for cpu, _ in times) / len(files)
        line = f'{name:32s} {1e6 * took:8,.0f} {1 / took:12,.0f} {ratio(seconds["ViLT"], times):12.2f}'
        if name in differences:
            pairs = ((differences[name](file), np.asarray(by_pillow(file))) for file in files)
            most = max(int(np.abs(one.astype(int) - other).max()) for one, other in pairs)
            line += f'   {most}'
            if name == 'kovilt' and most > 2:
                raise KoviltError(f'{name}: pixels differ from Pillow by up to {most} grey levels; 2 are allowed')
        print(line)


def huggingface_processors() -> dict[str, Any]:
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
    from transformers.models.vilt.image_processing_vilt import ViltImageProcessor

    return {'HuggingFace, Pillow': ViltImageProcessorPil(), 'HuggingFace, torchvision': ViltImageProcessor()}


def open_rgb(file: Path) -> Any:
    from PIL import Image

    with Image.open(file) as image:
        return image.convert('RGB')


def grey_levels(values: Any) -> np.ndarray:
    """uint8 (H, W, 3) of what HuggingFace has scaled to -1..1, (3, H, W)."""
    return ((values + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


# Epochs.


class QuestionsForHuggingFace:
    """A question and its opened image."""

    def __init__(self, dataset: QuestionDataset) -> None:
        records = [dataset.record(row) for row in range(len(dataset))]
        self.rows = [(record['image'], record['question']) for record in records]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Any, str]:
        image, question = self.rows[row]
        return open_rgb(image), question


class HuggingFaceCollate:
    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        from transformers import ViltProcessor

        self.processor = ViltProcessor(image_processor, tokenizer)

    def __call__(self, samples: list[tuple[Any, str]]) -> Any:
        images, questions = zip(*samples, strict=True)
        return self.processor(
            images=list(images),
            text=list(questions),
            padding=True,
            truncation=True,
            max_length=LONGEST_TEXT,
            return_tensors='pt',
        )


def measure_epochs(folder: Path, args: argparse.Namespace) -> None:
    from torch.utils.data import DataLoader

    from kovilt.datasets import AIHubLivingVQA, PreparedVQA, load_tokenizer, prepare

    texts = [{'type': 'TokenizeKorean', 'tokenizer': str(folder / 'tokenizer'), 'max_text_len': LONGEST_TEXT}]
    pipeline = [
        {'type': 'LoadImage'},
        {'type': 'ResizeViLT', **RESIZE},
        {'type': 'Patchify', 'patch_size': 32},
    ]
    files = {'data_root': str(folder / 'set'), 'image_pipeline': pipeline}
    answers = {'min_count': 1}
    prepare(folder / 'prepared', {'train': {'type': 'AIHubLivingVQA', 'answers': answers, **files}})
    from_files = AIHubLivingVQA(answers=answers, text_pipeline=texts, **files)
    from_prepared = PreparedVQA(
        data_root=str(folder / 'prepared'),
        answers=str(folder / 'prepared' / 'answers.json'),
        image_pipeline=[{'type': 'LoadPrepared'}],
        text_pipeline=texts,
        token_cache=str(folder / 'prepared' / 'tokens'),
    )
    shared = {'num_workers': args.workers, 'persistent_workers': args.workers > 0}
    loaders: dict[str, tuple[DataLoader, int]] = {}  # and how many epochs, so that starting workers does not count
    tokenizer = load_tokenizer(folder / 'tokenizer')
    for name, processor in huggingface_processors().items():
        loaders[name] = (
            DataLoader(
                QuestionsForHuggingFace(from_files),
                batch_size=args.batch_size,
                shuffle=True,
                collate_fn=HuggingFaceCollate(processor, tokenizer),
                **shared,
            ),
            1,
        )
    for name, dataset, together, epochs in (
        ('kovilt, 1 question an image', from_files, 1, 1),
        ('kovilt', from_files, None, 5),
        ('kovilt, prepared, 1 an image', from_prepared, 1, 20),
        ('kovilt, prepared', from_prepared, None, 100),
    ):
        loaders[name] = kovilt_loader(dataset, args.batch_size, together, **shared), epochs

    seconds = in_turn({name: lambda run=run: run_epochs(*run) for name, run in loaders.items()}, args.rounds)
    first, *_ = seconds
    print(f'\nan epoch, workers: {args.workers}, {args.batch_size} questions a batch')
    print('                                 samples/s of a core   samples/s   times HuggingFace, Pillow   a core feeds')
    for name, times in seconds.items():
        samples = len(from_files) * loaders[name][1]
        core, wall = (samples / statistics.median(column) for column in zip(*times, strict=True))
        times_faster = statistics.median(
            loaders[name][1] * one[0] / other[0] for one, other in zip(seconds[first], times, strict=True)
        )
        print(f'{name:32s} {core:19,.0f} {wall:11,.0f} {times_faster:27.1f}   {share(core)}')


def kovilt_loader(dataset: QuestionDataset, batch_size: int, together: int | None, **options: Any) -> DataLoader:
    from torch.utils.data import DataLoader

    from kovilt.datasets import GlobalBatchSampler, ImageGroupSampler, collate_pairs

    sampler = ImageGroupSampler(dataset, shuffle=True, seed=0, texts_per_image=together)
    batches = GlobalBatchSampler(sampler, batch_size)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate_pairs, **options)


def run_epochs(loader: DataLoader, epochs: int) -> None:
    for _ in range(epochs):
        for _ in loader:
            pass
    loader._iterator = None  # ends the workers, so that their time is known


# Texts.


def measure_texts(folder: Path, args: argparse.Namespace) -> None:
    import numpy as np

    from kovilt.datasets import TokenizeKorean
    from kovilt.datasets.collate import pad_texts
    from kovilt.datasets.columns import TextColumn
    from kovilt.datasets.token_cache import open_tokens

    chance = random.Random(0)
    texts = TextColumn(draw_question(chance) for _ in range(args.questions)).freeze()
    tokenize = TokenizeKorean(tokenizer=str(folder / 'tokenizer'), max_text_len=LONGEST_TEXT)
    order = np.random.default_rng(0).permutation(len(texts))

    seconds, cache = {}, None
    for name in ('first start: tokenized and written', 'second start: compared and mapped'):
        begin = time.process_time()
        cache = open_tokens(folder / 'tokens', tokenize, texts, lambda message, level: None)
        seconds[name] = time.process_time() - begin
    begin = time.process_time()
    for place in range(0, len(order), 256):
        pad_texts(cache.of(order[place : place + 256]))
    seconds['an epoch: all texts in random batches of 256'] = time.process_time() - begin
    size = sum(file.stat().st_size for file in (folder / 'tokens').iterdir()) / 1e6
    print(f'\n{len(texts):,} questions, one core, {size:,.0f} MB of pieces')
    for name, took in seconds.items():
        print(f'{name:46s} {took:6.1f} s')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
