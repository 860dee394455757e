#!/usr/bin/env python
"""Draw Rooms, the embedded data: household scenes with Korean captions and questions, in the layouts of AI-Hub.

python tools/data/make_rooms.py data/rooms --images 2000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.cli.arguments import ToolParser, at_least, available_cpus  # noqa: E402
from kovilt.errors import run_cli  # noqa: E402


def share(text: str) -> float:
    """A number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be between 0 and 1, not {value:g}')
    return value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
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
    parser.add_argument(
        '--workers',
        type=at_least(1),
        default=available_cpus(),
        metavar='W',
        help='processes that draw (default: one per CPU)',
    )
    parser.add_argument('--zip', action='store_true', help='zips, as AI-Hub 101 is downloaded, instead of folders')
    args = parser.parse_args(argv)
    if args.val_images is None:
        args.val_images = min(1000, max(1, args.images // 10))
    return args


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.progress import progress_bar
    from kovilt.rooms.write import ALONE, make_rooms

    with progress_bar('drawing rooms') as progress:
        drawn = make_rooms(
            args.out,
            images=args.images,
            val_images=args.val_images,
            seed=args.seed,
            workers=args.workers,
            zipped=args.zip,
            alone=ALONE if args.alone is None else args.alone,
            progress=progress,
        )
    how = 'drawn' if drawn else 'already there'
    print(f'{args.out}: {args.images} + {args.val_images} images, seed {args.seed}, {how}')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
