"""Draws Rooms, kovilt's embedded data: household scenes with Korean captions and questions, as the real sets lay them out.

python tools/data/make_rooms.py data/rooms --images 2000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f'error: {message}\n')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--images', type=int, required=True, metavar='N', help='training pictures')
    parser.add_argument('--dev-images', type=int, metavar='M', help='validation pictures (default: a tenth of N, 1 to 1000)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='same seed, same bytes (default: 0)')
    parser.add_argument('--workers', type=int, metavar='W', help='processes that draw (default: one per CPU)')
    parser.add_argument('--zip', action='store_true', help='zip files, as the real set is downloaded, instead of folders')
    args = parser.parse_args(argv)
    if args.dev_images is None:
        args.dev_images = min(1000, max(1, args.images // 10))
    if args.workers is None:
        args.workers = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    for option in ('images', 'dev_images', 'workers'):
        if getattr(args, option) < 1:
            parser.error(f'--{option.replace("_", "-")} must be at least 1, not {getattr(args, option)}')
    return args


def fail(message: str) -> int:
    print(f'error: {message}', file=sys.stderr)
    return 2


def show(start: float):
    """A progress callback: one line, rewritten on a terminal, every 10 % elsewhere."""
    terminal = sys.stderr.isatty()
    state = {'shown': 0.0, 'tenth': 0}

    def progress(done: int, total: int) -> None:
        now, tenth = time.monotonic(), done * 10 // total
        if done < total and (now - state['shown'] < 0.5 if terminal else tenth == state['tenth']):
            return
        state['shown'], state['tenth'] = now, tenth
        left = (now - start) / done * (total - done)
        text = f'drawing rooms {done}/{total} ({done / (now - start):.0f} pictures/s, {left:.0f} s left)'
        end = '\n' if done == total or not terminal else ''
        print(f'\r{text}' if terminal else text, end=end, file=sys.stderr, flush=True)

    return progress


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    sys.path.insert(0, str(ROOT))
    from kovilt.datasets.rooms.write import parameters, write_rooms

    wanted = parameters(images=args.images, dev_images=args.dev_images, seed=args.seed, zipped=args.zip)
    out = args.out.absolute()
    if out.exists() and not out.is_dir():
        return fail(f'{args.out} is a file; name a folder')
    if out.is_dir() and any(out.iterdir()):
        try:
            there = json.loads((out / 'rooms.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return fail(f'{args.out} is not empty and holds no Rooms; name another folder or empty it')
        differing = [f'{key} {there.get(key)} there, {value} asked' for key, value in wanted.items() if there.get(key) != value]
        if differing:
            return fail(f'{args.out} holds other Rooms ({"; ".join(differing)}); name another folder or remove it')
        print(f'{args.out} is already there: {args.images} + {args.dev_images} pictures, seed {args.seed}')
        return 0
    temporary = out.with_name(f'.{out.name}.{os.getpid()}')
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        return fail(f'{args.out} cannot be written: {error.strerror}; name a folder you may write to')
    try:
        start = time.monotonic()
        write_rooms(
            temporary,
            images=args.images,
            dev_images=args.dev_images,
            seed=args.seed,
            workers=args.workers,
            zipped=args.zip,
            progress=show(start),
        )
        temporary.replace(out)
    except OSError as error:
        return fail(f'{args.out} cannot be written: {error.strerror}')
    except KeyboardInterrupt:
        print('error: stopped; nothing was written', file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f'{args.out}: {args.images} + {args.dev_images} pictures')
    return 0


if __name__ == '__main__':
    sys.exit(main())
