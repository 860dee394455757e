"""Draws Rooms, kovilt's embedded data: household scenes with Korean captions and questions in the real sets' layouts.

python tools/data/make_rooms.py data/rooms --images 2000 --seed 0
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f'error: {message}\n')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--images', type=int, required=True, metavar='N', help='training images')
    parser.add_argument(
        '--dev-images', type=int, metavar='M', help='validation images (default: a tenth of N, 1 to 1000)'
    )
    parser.add_argument(
        '--alone', type=float, metavar='SHARE', help='training images that show one thing (default: a quarter)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='same seed, same bytes (default: 0)')
    parser.add_argument('--workers', type=int, metavar='W', help='processes that draw (default: one per CPU)')
    parser.add_argument('--zip', action='store_true', help='zips, as the real set is downloaded, instead of folders')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args(argv)
    if args.dev_images is None:
        args.dev_images = min(1000, max(1, args.images // 10))
    if args.workers is None:
        args.workers = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    for option in ('images', 'dev_images', 'workers'):
        if getattr(args, option) < 1:
            parser.error(f'--{option.replace("_", "-")} must be at least 1, not {getattr(args, option)}')
    if args.alone is not None and not 0 <= args.alone <= 1:
        parser.error(f'--alone must be between 0 and 1, not {args.alone}')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    sys.path.insert(0, str(ROOT))
    from kovilt.errors import run_cli

    def run() -> None:
        from kovilt.rooms import make_rooms
        from kovilt.cli.progress import progress_bar

        with progress_bar('drawing rooms') as progress:
            made = make_rooms(
                args.out,
                images=args.images,
                dev_images=args.dev_images,
                seed=args.seed,
                workers=args.workers,
                zipped=args.zip,
                **({} if args.alone is None else {'alone': args.alone}),
                progress=progress,
            )
        how = 'drawn' if made else 'already there'
        print(f'{args.out}: {args.images} + {args.dev_images} images, seed {args.seed}, {how}')

    return run_cli(run, debug=args.debug)


if __name__ == '__main__':
    sys.exit(main())
