"""What `kovilt train FOLDER` reaches on small sets, from the packaged encoder and from random weights.

    python -m benchmarks.own_images photos --images 60 --seeds 0 1 2
    python -m benchmarks.own_images data/rooms --images 60 250 1000 --variants rule scratch
    python -m benchmarks.own_images photos --images 60 --variants rule lr=3e-4 drop=0.3 steps=600
    python -m benchmarks.own_images data/rooms --images 250 --noise --without-images

SOURCE is a folder of images, each named after the one thing that it shows (고양이.png, 컵.png, ...), or a folder that
`kovilt rooms` has drawn. From the first kind, sets are made that show one thing each (with --pairs, some two beside
each other), at random sizes and in random tints, with questions about kind, existence, tint and side. Each set is
trained as `kovilt train --model small` would, and judged on the questions of 100 other images. A variant is `rule`,
`scratch` (random weights), `distort` (distorted images), or changes of the rule such as `lr=3e-4,drop=0.3`; a variant
may have several of these, with commas.

--without-images runs the whole of `kovilt train` instead and prints its accuracy beside that of its training without
images; --noise puts noise in the place of every image, so that images cannot help.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.own_images_sets import write_set
from benchmarks.report import markdown_table
from benchmarks.timing import run_kovilt
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from kovilt.files import read_json, read_json_lines
from kovilt.recipes import commands

_DISTORT = [
    dict(type='LoadImage'),
    dict(type='RandomCrop', min_side=0.85),
    dict(type='ResizeViLT', short=96, long=159, divisor=16),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
    dict(type='Patchify', patch_size=16),
]
_CHANGES = {
    'distort': [
        'train_dataloader.dataset.cache_images=False',
        f'train_dataloader.dataset.image_pipeline={_DISTORT}',
    ]
}
_COMPARED = ['images', 'seed', 'with images', 'without', 'most frequent answer', 'difference', 'processor time']


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('source', type=Path, metavar='SOURCE', help='images named after what they show, or Rooms')
    parser.add_argument('--images', type=at_least(2), nargs='+', default=[60], metavar='N', help='training images (60)')
    parser.add_argument(
        '--seeds', type=at_least(0), nargs='+', default=[0], metavar='S', help='of set and training (0)'
    )
    parser.add_argument('--variants', nargs='+', metavar='V', help='(rule scratch)')
    parser.add_argument('--pairs', type=float, default=0.0, metavar='SHARE', help='of images that show two things (0)')
    parser.add_argument('--noise', action='store_true', help='noise in the place of each image')
    parser.add_argument('--without-images', action='store_true', help='compare with training without images')
    parser.add_argument('--minutes', type=float, default=8.0, metavar='M', help='limit of a training (8)')
    parser.add_argument('--keep', type=Path, metavar='FOLDER', help='keep the sets and the trainings there')
    args = parser.parse_args(argv)
    if not 0 <= args.pairs <= 1:
        parser.error(f'argument --pairs: must be 0 to 1, not {args.pairs:g}')
    if not 0 < args.minutes < math.inf:
        parser.error(f'argument --minutes: must be above 0, not {args.minutes:g}')
    if args.variants and args.without_images:
        parser.error('argument --without-images: the command follows the rule; leave out --variants')
    args.variants = args.variants or ['rule', 'scratch']
    return args


def main(args: argparse.Namespace) -> None:
    for variant in args.variants:
        list(_options(variant))  # a misspelt one is told before the first training
    with tempfile.TemporaryDirectory() as folder:
        out = args.keep or Path(folder)
        rows: list[list[Any]] = []
        if args.without_images:
            rows = [compare(args, out, images, seed) for images in args.images for seed in args.seeds]
            print(markdown_table(_COMPARED, rows))
            return
        for images in args.images:
            for variant in args.variants:
                results = [measure(args, out, images, seed, variant) for seed in args.seeds]
                accuracy = [result['accuracy'] for result in results]
                spread = f' ({min(accuracy):.1f} to {max(accuracy):.1f})' if len(accuracy) > 1 else ''
                rows.append(
                    [
                        images,
                        variant,
                        f'{statistics.fmean(accuracy):.1f}{spread}',
                        f'{statistics.fmean([result["majority_accuracy"] for result in results]):.1f}',
                        *(round(statistics.fmean([result[key] for result in results])) for key in ('best', 'steps')),
                        f'{statistics.fmean([result["seconds"] for result in results]):.0f} s',
                    ]
                )
                print(' | '.join(map(str, rows[-1])), file=sys.stderr, flush=True)
    header = ['images', 'variant', 'accuracy', 'most frequent answer', 'best step', 'steps', 'processor time']
    print(markdown_table(header, rows))


def measure(args: argparse.Namespace, out: Path, images: int, seed: int, variant: str) -> dict[str, Any]:
    """Train one variant on a set of `images` images; its best validation accuracy in percent."""
    data = make_set(args, out, images, seed)
    return train(data, out / f'{data.name}_{variant}', seed, variant, args.minutes)


def compare(args: argparse.Namespace, out: Path, images: int, seed: int) -> list[Any]:
    """What `kovilt train` reaches with and without the images of a set."""
    data = make_set(args, out, images, seed)
    work_dir = out / f'{data.name}_command'
    options = ['--model', 'small', '--minutes', 2 * args.minutes, '--seed', seed, '--no-report']
    seconds = run_kovilt(commands.kovilt('train', data, '--work-dir', work_dir, *options))
    result = read_json(work_dir / 'result.json')
    low, high = result['images_bring_interval']
    row = [f'{result[key]:.1f}' for key in ('accuracy', 'question_only_accuracy', 'majority_accuracy')]
    return [
        str(images),
        str(seed),
        *row,
        f'{result["images_bring"]:+.1f} ({low:+.1f} to {high:+.1f})',
        f'{seconds:.0f} s',
    ]


def make_set(args: argparse.Namespace, out: Path, images: int, seed: int) -> Path:
    """The folder of a set, which is written unless it is there."""
    kind = f'{args.source.resolve().name}_{args.pairs:g}{"_noise" if args.noise else ""}'
    data = out / f'{kind}_{images}_{seed}'
    if not data.is_dir():
        write_set(args.source, data, images, seed, args.pairs, noise=args.noise)
    return data


def train(data: Path, work_dir: Path, seed: int, variant: str, minutes: float) -> dict[str, Any]:
    """Train as `kovilt train` plans it, with the changes of the variant.

    Returns:
        accuracy and majority_accuracy (percent) of the best validation, its step, the number of steps, and seconds of
        processor time.
    """
    from kovilt.recipes.own_images import Choices, Schedule, Start, make_start, read_data, write_config
    from kovilt.recipes.own_images_run import measure_step

    choices = Choices(str(data), model='small', minutes=minutes * 2, seed=seed)  # half of them are for the training
    found = read_data(choices)
    start = make_start(choices, found, work_dir / 'start')
    if 'scratch' in variant.split(','):
        start = Start(start.folder, False, start.text)
    config = work_dir / 'training.py'
    write_config(config, choices, found, start, Schedule.of(found.questions['train'], start, choices, 0.2), '')
    schedule = Schedule.of(found.questions['train'], start, choices, measure_step(config, choices).seconds)
    write_config(config, choices, found, start, schedule, '')
    seconds = run_kovilt(commands.train(str(config), work_dir / 'train', list(_options(variant))))
    lines = [row for _, row in read_json_lines(work_dir / 'train' / 'metrics.jsonl', 'table')]
    best = max((row for row in lines if row['mode'] == 'val'), key=lambda row: row['accuracy'])
    return {
        'accuracy': best['accuracy'],
        'majority_accuracy': best['majority_accuracy'],
        'best': best['step'],
        'steps': lines[-1]['step'],
        'seconds': seconds,
    }


def _options(variant: str) -> Iterator[str]:
    """Config options of a variant such as `lr=3e-4,drop=0.3`.

    Raises:
        KoviltError: a part of it is neither a change nor a name of one.
    """
    keys = {
        'lr': 'optim_wrapper.optimizer.lr',
        'decay': 'optim_wrapper.optimizer.weight_decay',
        'head': 'optim_wrapper.paramwise_cfg.head_lr_mult',
        'drop': 'model.encoder.drop_rate',
        'steps': 'train_cfg.max_iters',
        'every': 'train_cfg.val_interval',
        'patience': 'custom_hooks.1.patience',
    }
    for change in variant.split(','):
        key, equals, value = change.partition('=')
        if change in _CHANGES:
            yield from _CHANGES[change]
        elif equals:
            yield f'{keys.get(key, key)}={value}'
        elif change not in ('rule', 'scratch'):
            names = ', '.join(('rule', 'scratch', *_CHANGES))
            raise KoviltError(f'--variants {variant}: {change!r} is no variant; give {names}, or KEY=VALUE')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
