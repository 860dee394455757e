"""The cost of the way from files to batches: images and whole epochs, against ViLT and HuggingFace.

    python -m benchmarks.data_path
    python -m benchmarks.data_path --only epoch

Writes its own data to a temporary folder: JPEGs that cost what photographs cost (100 to 150 KB, sizes of COCO) in
AI-Hub 101's layout, seven questions an image. All times are processor time, worker processes included; variants take
turns, and a ratio is the median over the rounds of each round's own ratio.

`images`: one image after another, decoded, resized and made into the model's input by ViLT's transform (Pillow,
ToTensor, Normalize), by HuggingFace's two image processors and by kovilt's transforms. The last column is the largest
difference of a resized pixel from Pillow's, in grey levels.
`epoch`: all questions once, in batches made by workers: HuggingFace's processor with its usual collate, which opens an
image for every question, against kovilt from files and from prepared data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data_path_loaders import (
    huggingface_processors,
    make_loaders,
    open_rgb,
    run_epochs,
)
from benchmarks.fixtures import PATCH_SIZE, RESIZE
from benchmarks.report import markdown_table
from benchmarks.synthetic_data import QUESTIONS_PER_IMAGE, train_tokenizer, write_jpeg_set
from benchmarks.timing import describe_machine, ratio, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    import numpy as np

SECTIONS = ('images', 'epoch')
GPU_RATE = 3000  # samples a second that a GPU trains at, of which one core feeds a share
MAX_GREY_LEVELS = 2  # by which kovilt's pixels may differ from Pillow's


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument('--only', choices=SECTIONS, action='append', help='measure this section alone; may be repeated')
    parser.add_argument('--images', type=positive, default=120, metavar='N', help='images of the set (120)')
    parser.add_argument('--rounds', type=positive, default=5, metavar='N', help='timings of each variant (5)')
    parser.add_argument('--workers', type=at_least(0), default=2, metavar='N', help='of an epoch (2); 0 = this process')
    parser.add_argument('--batch-size', type=positive, default=64, metavar='N', help='questions in a batch (64)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import cv2
    import torch
    from mmengine.logging import MMLogger

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    MMLogger.get_instance('data_path', log_level='ERROR')  # no summary of the data sets
    sections = args.only or SECTIONS
    print(describe_machine('cpu'))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_tokenizer(folder / 'tokenizer')
        files = write_jpeg_set(folder / 'set', args.images)
        size = statistics.mean(file.stat().st_size for file in files) / 1000
        print(f'{len(files)} images, {size:.0f} KB each, {QUESTIONS_PER_IMAGE} questions on each')
        if 'images' in sections:
            measure_images(files, args.rounds)
        if 'epoch' in sections:
            measure_epochs(folder, args)


# Images


def measure_images(files: list[Path], rounds: int) -> None:
    """Print a row for each way from a file to the model's input.

    Raises:
        KoviltError: kovilt's pixels differ from Pillow's by more than MAX_GREY_LEVELS.
    """
    import numpy as np
    from PIL import Image
    from torchvision.transforms import Compose, Normalize, ToTensor  # type: ignore[import-untyped]

    from kovilt.datasets import LoadImage, Patchify, ResizeViLT
    from kovilt.datasets.transforms.patches import join_patches

    load, resize, patchify = LoadImage(), ResizeViLT(**RESIZE), Patchify(patch_size=PATCH_SIZE)
    normalize = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])

    def pillow(file: Path) -> Image.Image:
        image = open_rgb(file)
        return image.resize(resize.target(*image.size), Image.Resampling.BICUBIC)

    def kovilt(file: Path) -> dict[str, Any]:
        return patchify(resize(load({'img_path': file})))

    variants: dict[str, Callable[[Path], Any]] = {"ViLT's transform": lambda file: normalize(pillow(file))}
    pixels: dict[str, Callable[[Path], np.ndarray]] = {}  # uint8 (H, W, 3) of the resized image
    for name, processor in huggingface_processors().items():
        variants[name] = partial(process, processor)
        pixels[name] = partial(resized_pixels, processor)
    variants['kovilt'] = kovilt
    pixels['kovilt'] = lambda file: join_patches(*(kovilt(file)[key] for key in ('patches', 'grid')))

    seconds = time_in_turn({name: partial(run_all, run, files) for name, run in variants.items()}, rounds=rounds)
    rows = []
    for name, times in seconds.items():
        each = statistics.median(times) / len(files)
        difference = None
        if name in pixels:
            pairs = ((pixels[name](file), np.asarray(pillow(file))) for file in files)
            difference = max(int(np.abs(one.astype(int) - other).max()) for one, other in pairs)
            if name == 'kovilt' and difference > MAX_GREY_LEVELS:
                raise KoviltError(f'pixels differ from Pillow by {difference} grey levels, more than {MAX_GREY_LEVELS}')
        faster = ratio(seconds["ViLT's transform"], times)
        rows.append([name, f'{1e3 * each:.1f}', f'{1 / each:,.0f}', f'{faster:.2f}', difference])
    head = ['an image, one core', 'ms', 'images/s', "times ViLT's", 'off Pillow by']
    print(f'\n{markdown_table(head, rows)}')


def run_all(run: Callable[[Path], Any], files: list[Path]) -> None:
    for file in files:
        run(file)


def process(processor: Any, file: Path) -> Any:
    """What HuggingFace's image processor makes of a file."""
    return processor(open_rgb(file), return_tensors='pt')


def resized_pixels(processor: Any, file: Path) -> np.ndarray:
    """The pixels uint8 (H, W, 3) behind HuggingFace's `pixel_values` (1, 3, H, W) in [-1, 1]."""
    values = process(processor, file)['pixel_values'][0]
    return ((values + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


# Epochs


def measure_epochs(folder: Path, args: argparse.Namespace) -> None:
    """Print a row for each way to make the batches of an epoch."""
    seconds, samples = {}, {}
    loaders = make_loaders(folder, args)
    times = time_in_turn({name: partial(run_epochs, *loader) for name, loader in loaders.items()}, rounds=args.rounds)
    for name, (loader, epochs) in loaders.items():
        samples[name] = len(loader.dataset)  # type: ignore[arg-type]  # torch's Dataset has no len
        seconds[name] = [time / epochs for time in times[name]]
    first = next(iter(seconds))
    rows = []
    for name, epoch in seconds.items():
        rate = samples[name] / statistics.median(epoch)
        rows.append([name, f'{rate:,.0f}', f'{ratio(seconds[first], epoch):.1f}', f'{rate / GPU_RATE:.1%}'])
    print(f'\nan epoch in batches of {args.batch_size} questions, {args.workers} workers\n')
    print(markdown_table(['', 'questions/s of a core', f'times {first}', f'of a GPU at {GPU_RATE:,}/s'], rows))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
