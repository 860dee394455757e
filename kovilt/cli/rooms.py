"""Draw Rooms, the embedded data: household scenes with Korean captions and questions, in the layouts of AI-Hub.

kovilt rooms data/rooms --images 2000 --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.terminal import show


def share(text: str) -> float:
    """A number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be between 0 and 1, not {value:g}')
    return value


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--images', type=at_least(1), required=True, metavar='N', help='training images')
    parser.add_argument(
        '--val-images', type=at_least(1), metavar='M', help='validation images (default: a tenth of N, 1 to 1000)'
    )
    parser.add_argument(
        '--alone',
        type=share,
        metavar='SHARE',
        help='share of the training images that show a single object (default: a quarter)',
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='same seed, same bytes (default: 0)')
    parser.add_workers('draw')
    parser.add_argument('--choices', action='store_true', help='multiple-choice questions, too: OUT/choices')
    parser.add_argument(
        '--unanswerable', action='store_true', help='two more questions for each image, which it does not answer'
    )
    parser.add_argument('--zip', action='store_true', help='zips, as AI-Hub 101 is downloaded, instead of folders')


def run(args: argparse.Namespace) -> None:
    val_images = args.val_images or min(1000, max(1, args.images // 10))
    from kovilt.cli.progress import progress_bar
    from kovilt.rooms.choices import write_choices
    from kovilt.rooms.write import ALONE, make_rooms

    with progress_bar('drawing rooms') as progress:
        drawn = make_rooms(
            args.out,
            images=args.images,
            val_images=val_images,
            seed=args.seed,
            workers=args.workers,
            zipped=args.zip,
            alone=ALONE if args.alone is None else args.alone,
            unanswerable=args.unanswerable,
            progress=progress,
        )
    if args.choices:
        with progress_bar('writing choices') as progress:
            write_choices(args.out, workers=args.workers, progress=progress)
    how = 'drawn' if drawn else 'already there'
    show(f'{args.out}: {args.images} + {val_images} images, seed {args.seed}, {how}')
