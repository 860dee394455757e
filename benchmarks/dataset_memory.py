"""The memory of a data set of AI-Hub 101's size: of the main process that opens it, and of the loader's workers.

    python -m benchmarks.dataset_memory --rows 1646080 --workers 2
    python -m benchmarks.dataset_memory --rows 7119756 --workers 2     # all of AI-Hub 101

Writes a set with tiny images in a zip to a temporary folder, opens it in fresh processes, without and with a cache of
its rows, and reads batches from worker processes, forked and spawned. Memory is resident memory in MB: `private` pages
belong to one process, `shared` ones, such as those of mapped files, are counted in every process that maps them. A
spawned worker imports Python, torch and transformers anew, which is private to it. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import MB, highest_resident, process_memory
from benchmarks.synthetic_data import train_tokenizer, write_zip_set
from benchmarks.timing import processor_clock, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from reproduction import paper

STAGES = (  # title, with a cache, how workers start; None = none
    ('without a cache, forked workers', False, 'fork'),
    ('first opening with a cache', True, None),
    ('second opening, forked workers', True, 'fork'),
    ('second opening, spawned workers', True, 'spawn'),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument(
        '--rows',
        type=at_least(1),
        default=paper.TRAINING_QUESTIONS,
        metavar='N',
        help=f'questions ({paper.TRAINING_QUESTIONS})',
    )
    parser.add_argument('--workers', type=at_least(1), default=2, metavar='N', help='worker processes (2)')
    parser.add_argument('--batches', type=at_least(1), default=300, metavar='N', help='batches to read (300)')
    parser.add_argument('--batch-size', type=at_least(1), default=256, metavar='N', help='questions in a batch (256)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = time.perf_counter()
        write_zip_set(folder / 'set', args.rows)
        size = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6
        print(f'wrote {args.rows:,} rows, {size:,.0f} MB, in {time.perf_counter() - start:.0f} s')
        train_tokenizer(folder / 'tokenizer')
        for title, cache, method in STAGES:
            print(f'\n{title}', flush=True)
            process = multiprocessing.get_context('spawn').Process(target=measure, args=(folder, args, cache, method))
            process.start()
            process.join()
            if process.exitcode:
                raise KoviltError(f'{title}: the process ended with code {process.exitcode}')


def measure(folder: Path, args: argparse.Namespace, cache: bool, method: str | None) -> None:
    """Open the set, read batches from workers started by `method`, and print the memory at each stage."""
    from torch.utils.data import DataLoader

    from kovilt.datasets import (
        AIHubLivingReader,
        GlobalBatchSampler,
        ImageGroupSampler,
        QuestionDataset,
        collate_pairs,
        load_tokenizer,
    )

    load_tokenizer(folder / 'tokenizer')
    before, start, wall = highest_resident(), processor_clock(), wall_clock()
    dataset = QuestionDataset(
        reader=AIHubLivingReader(data_root=str(folder / 'set'), split='train', cache=cache),
        answers={'min_count': 6},
        image_pipeline=[
            {'type': 'LoadImage'},
            {'type': 'ResizeViLT', 'short': 32, 'long': 64, 'divisor': 32},
            {'type': 'Patchify', 'patch_size': 32},
        ],
        text_pipeline=[{'type': 'TokenizeKorean', 'tokenizer': str(folder / 'tokenizer'), 'max_text_len': 40}],
    )
    seconds, wall = processor_clock() - start, wall_clock() - wall
    peak, memory = highest_resident(), process_memory()
    print(
        f'{len(dataset):,} rows, {dataset.num_images:,} images opened in {wall:.1f} s, {seconds:.1f} s of the processor'
    )
    print(
        f'main process: peak {peak / MB:,.0f} MB, {before / MB:,.0f} MB of it before opening; '
        f'now {memory.private / MB:,.0f} MB private, {memory.shared / MB:,.0f} MB shared'
    )
    if method is None:
        return

    sampler = GlobalBatchSampler(ImageGroupSampler(dataset, shuffle=True, seed=0), args.batch_size)
    start = wall_clock()
    next(iter(sampler))
    seconds = wall_clock() - start
    print(f'first batch of an epoch sampled in {seconds:.1f} s; main process: peak {highest_resident() / MB:,.0f} MB')

    start = wall_clock()
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate_pairs,
        num_workers=args.workers,
        multiprocessing_context=method,
    )
    iterator: Any = iter(loader)  # with the worker processes in `_workers`
    for number in range(args.batches):
        next(iterator)
        if number in (0, args.batches - 1):
            for worker, process in enumerate(iterator._workers):
                private, shared = process_memory(process.pid)
                print(
                    f'worker {worker} after {number + 1:,} batches: {private / MB:,.0f} MB private, '
                    f'{shared / MB:,.0f} MB shared'
                )
    rate = args.batches * args.batch_size / (wall_clock() - start)
    print(f'{rate:,.0f} rows/s with {args.workers} workers; main process: peak {highest_resident() / MB:,.0f} MB')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
