"""A training step in float32 and in bfloat16 (`--amp`), in turn on the same batches: median wall time and ratio.

    python -m benchmarks.training_step configs/rooms/pretrain.py
    python -m benchmarks.training_step configs/rooms/pretrain.py --against ../kovilt-before --steps 200

Images are noise and texts random, in the shapes of Rooms (squares for METER), so no data is needed. Every batch has its
own lengths. A ratio above 1 means that bfloat16 is faster.

With `--against`, a step in bfloat16 of this version and of the version in another checkout, in turn: median processor
time of all threads, ratio, and how far the losses of the steps are apart. A ratio above 1 means that this version is
faster.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fixtures import ROOT, make_batch, sample_grids, sample_lengths
from benchmarks.timing import describe_machine, ratio, time_in_turn, wall_clock
from benchmarks.training_step_worker import NUM_ANSWERS, VOCAB_SIZE, make_trainer
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper

    from kovilt.batch import Batch

TEXT_LENGTHS = (8, 25)  # tokens
SHAPES = ((1, 1), (3, 4), (4, 3), (2, 3), (5, 9))  # height : width of an image
WARM_UPS = 3  # steps
PRECISIONS = ('float32', 'bfloat16')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='a training config')
    parser.add_argument('--texts', type=at_least(2), default=64, metavar='N', help='pairs of a batch (64)')
    parser.add_argument('--steps', type=at_least(1), default=20, metavar='N', help='timed steps in each precision (20)')
    parser.add_argument('--against', type=Path, metavar='CHECKOUT', help='compare with the version in this folder')
    parser.add_argument('--threads', type=at_least(1), metavar='N', help="of torch (torch's default)")
    return parser.parse_args(argv)


def random_batch(config: Config, texts: int, rng: torch.Generator) -> Batch:
    """A batch of texts about an image each, of the sizes that the config's encoder takes."""
    encoder = config.model.encoder
    square = encoder.type == 'METER'
    patch_size = encoder.image_encoder.patch_size if square else encoder.patch_size
    side = encoder.image_size // patch_size
    shapes = ((1, 1),) if square else SHAPES
    grids = {(max(side, side * height // width), max(side, side * width // height)): 1 for height, width in shapes}
    longest = min(TEXT_LENGTHS[1], encoder.max_text_len)
    return make_batch(
        sample_grids(texts, rng, grids),
        sample_lengths(texts, rng, (TEXT_LENGTHS[0], longest)),
        rng,
        patch_size=patch_size,
        vocab_size=VOCAB_SIZE,
        num_answers=NUM_ANSWERS,
    )


def make_batches(config: Config, texts: int, steps: int) -> list[Batch]:
    """Random batches for the steps to warm up and for `steps` more."""
    import torch

    rng = torch.Generator().manual_seed(0)
    return [random_batch(config, texts, rng) for _ in range(WARM_UPS + steps)]


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config

    torch.set_num_threads(args.threads or torch.get_num_threads())
    config = load_config(args.config, [], {})
    batches = make_batches(config, args.texts, args.steps)
    if args.against:
        print(f'{args.config} on {describe_machine("cpu")}: {compare_versions(args, batches)}')
        return
    variants = {precision: _steps(*make_trainer(config, precision), batches) for precision in PRECISIONS}
    seconds = time_in_turn(variants, rounds=args.steps, clock=wall_clock, warm_ups=WARM_UPS)
    full, half = (statistics.median(seconds[precision]) for precision in PRECISIONS)
    encoder = config.model.encoder
    print(
        f'{args.config} on {describe_machine("cpu")}: {args.texts} pairs, hidden size {encoder.hidden_size}, '
        f'{encoder.num_layers} blocks: float32 {full * 1e3:.0f} ms, bfloat16 {half * 1e3:.0f} ms a step, '
        f'ratio {ratio(seconds["float32"], seconds["bfloat16"]):.2f}'
    )


def _steps(model: BaseModel, optim_wrapper: OptimWrapper, batches: list[Batch]) -> Callable[[], object]:
    """A step on the next batch at every call."""
    cycle = itertools.cycle(batches)
    return lambda: model.train_step([next(cycle)], optim_wrapper)


class Worker:
    """A process that trains with the version of kovilt in a checkout."""

    def __init__(self, checkout: Path, config: str, batches_file: str, threads: int) -> None:
        self.checkout = checkout
        source = Path(__file__).with_name('training_step_worker.py').read_text('utf-8')
        command = [sys.executable, '-c', f'{source}\nserve_steps(*sys.argv[1:])', config, batches_file, str(threads)]
        self.process = subprocess.Popen(
            command,
            cwd=checkout,
            env={**os.environ, 'PYTHONPATH': str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def step(self) -> tuple[float, float]:
        """Processor seconds and loss of the next step."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        seconds, loss = map(float, self.read_line().split())
        return seconds, loss

    def read_line(self) -> str:
        """The next line that the process prints; KoviltError if it has ended."""
        assert self.process.stdout is not None and self.process.stderr is not None
        if line := self.process.stdout.readline():
            return line
        raise KoviltError(f'{self.checkout}: {self.process.stderr.read().strip().splitlines()[-1]}')


def compare_versions(args: argparse.Namespace, batches: list[Batch]) -> str:
    """Time steps of this version and of that in `--against`, in turn, in processes of their own.

    Raises:
        KoviltError: that folder has no kovilt, or one of the versions fails.
    """
    import torch

    if not (args.against / 'kovilt').is_dir():
        raise KoviltError(f'--against {args.against}: no checkout of kovilt')
    with tempfile.TemporaryDirectory() as folder:
        torch.save(batches, batches_file := f'{folder}/batches.pth')
        ours, theirs = workers = [
            Worker(checkout.resolve(), args.config, batches_file, torch.get_num_threads())
            for checkout in (ROOT, args.against)
        ]
        try:
            for worker in workers:
                worker.read_line()  # it is ready
            steps: list[dict[Worker, tuple[float, float]]] = []
            for _ in range(WARM_UPS + args.steps):
                steps.append({worker: worker.step() for worker in random.sample(workers, 2)})
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.communicate()
    after, before = ([step[worker][0] for step in steps[WARM_UPS:]] for worker in (ours, theirs))
    losses = [step[theirs][1] for step in steps]
    distances = [abs(step[ours][1] - step[theirs][1]) for step in steps]
    return (
        f'{args.against} {statistics.median(before) * 1e3:.0f} ms, this version {statistics.median(after) * 1e3:.0f} '
        f'ms a step, ratio {ratio(before, after):.2f}; losses of {statistics.mean(losses):.3f} on average are '
        f'{statistics.mean(distances):.4f} apart'
    )


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
