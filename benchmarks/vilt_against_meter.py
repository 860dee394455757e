"""How many times as fast as METER ViLT trains: whole training steps of both, in turn, on batches of real shapes.

    python -m benchmarks.vilt_against_meter --out ratio.json            # on a GPU, in bfloat16
    python -m benchmarks.vilt_against_meter --device cpu --questions 1  # one thread, in float32

The models are built from configs/kovilt_vqa_aihub.py and configs/meter_vqa_aihub.py with random weights; a step is
forward, backward and fused AdamW. Images have the shapes of photographs (ViLT) or are squares (METER), questions have
5 to 20 tokens. METER's image encoder encodes an image once for all its questions; ViLT cannot, so the ratio is given
for 1 question an image, as in published training, and for 7, the mean of AI-Hub 101, as kovilt's loader groups them.
Reading and decoding of data is left out. `samples/s` counts questions; the epoch is the time that as many rows as the
paper's would take on this one device. A CPU is timed by processor time, a GPU by wall time. On a CPU torch has no fused
attention with dropout on its weights, which METER has in training and ViLT has not; the last lines name the kernels.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.flops import forward_flops
from benchmarks.memory import peak_memory
from benchmarks.report import markdown_table
from benchmarks.timing import count_host_waits, device_clock, is_cuda, prepare_device, time_in_turn
from benchmarks.timing import ratio as timing_ratio
from benchmarks.vilt_against_meter_trainer import (
    SCALES,
    Trainer,
    count_attention_kernels,
    find_fastest_batch,
)
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from kovilt.files import write_json
from reproduction import paper

PAPER_HOURS = {
    'ViLT': paper.EPOCH_HOURS['scratch'],
    'METER': paper.EPOCH_HOURS['meter'],
}  # on a machine it does not name


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument(
        '--sides', type=positive, nargs='+', metavar='N', help="METER's images, in pixels (288 384 576)"
    )
    parser.add_argument('--questions', type=positive, nargs='+', default=[1, 7], metavar='N', help='an image (1 7)')
    parser.add_argument(
        '--batch',
        type=positive,
        metavar='N',
        help='questions of a step; on a GPU the largest of the powers of 2 from 8 on that are tried (GPU: 256, CPU: 2)',
    )
    parser.add_argument('--rounds', type=positive, default=5, metavar='N', help='timings of each model (5)')
    parser.add_argument('--steps', type=positive, metavar='N', help='steps of one timing (GPU: 2, CPU: 1)')
    parser.add_argument('--scale', choices=SCALES, default='base', help='base: the published sizes')
    parser.add_argument('--device', choices=('cuda', 'cpu'), help='by default a GPU if there is one')
    parser.add_argument('--out', metavar='FILE', help='also write all figures as JSON')
    return parser.parse_args(argv)


@dataclass
class Row:
    """A model, how it is fed, and what was measured. A sample is a question."""

    model: str
    pixels: str
    questions: int
    batch: int = 0
    parameters: int = 0
    patches: float = 0.0  # of an image, mean
    forward_gflop: float = 0.0  # of a sample
    seconds: list[float] = field(default_factory=list)  # of a sample, by round
    peak_gb: float | None = None
    attention: dict[str, int] = field(default_factory=dict)
    host_waits: int | None = None  # in a step

    @property
    def rate(self) -> float:
        """Samples a second, the median."""
        return 1 / statistics.median(self.seconds)

    @property
    def tflops(self) -> float:
        """Achieved TFLOP/s; the backward pass counts twice the forward pass."""
        return 3 * self.forward_gflop * self.rate / 1e3

    @property
    def epoch_hours(self) -> float:
        return paper.TRAINING_QUESTIONS / self.rate / 3600


def measure(args: argparse.Namespace, device: str) -> list[Row]:
    """All models in turn, `args.rounds` times."""
    import torch

    cuda = is_cuda(device)
    largest, steps = args.batch or (256 if cuda else 2), args.steps or (2 if cuda else 1)
    sides = args.sides or SCALES[args.scale]['sides']
    trainers = [Trainer('ViLT', None, args.scale, device)]
    trainers += [Trainer('METER', side, args.scale, device) for side in sides]
    rows: list[Row] = []
    variants: dict[int, Callable[[], None]] = {}
    for trainer in trainers:
        for questions in args.questions:
            size = find_fastest_batch(trainer, questions, largest) if cuda else largest
            row = describe(trainer, questions, size)
            print(f'{row.model} {row.pixels}, {questions} an image: steps of {size}', file=sys.stderr, flush=True)
            rng = torch.Generator().manual_seed(1)  # the same questions for all models
            batches = itertools.cycle([trainer.make_batch(size, questions, rng) for _ in range(args.rounds * steps)])
            variants[len(rows)] = lambda trainer=trainer, batches=batches: trainer.step(next(batches))  # type: ignore[misc]
            rows.append(row)
    seconds = time_in_turn(
        variants,
        rounds=args.rounds,
        clock=device_clock(device),
        warm_ups=0,  # `describe` has taken steps
        untimed=int(cuda),  # blocks of another model's sizes do not suit: the untimed step finds new ones
        repeats=steps,
    )
    for index, row in enumerate(rows):
        row.seconds = [step / row.batch for step in seconds[index]]
    return rows


def describe(trainer: Trainer, questions: int, size: int) -> Row:
    """The row of a model without its times."""
    import torch

    batch = trainer.make_batch(size, questions, torch.Generator().manual_seed(1))
    row = Row(trainer.model_name, trainer.pixels, questions, size)
    row.parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    row.patches = batch['grids'].prod(1).float().mean().item()
    row.forward_gflop = forward_flops(trainer.model, batch) / size / 1e9
    row.attention = count_attention_kernels(trainer, batch)
    try:
        row.peak_gb = (peak_memory(lambda: trainer.step(batch), trainer.device) + trainer.own_bytes()) / 1e9
    except (KoviltError, OSError):  # only Linux reports the peak of a process
        row.peak_gb = None
    if is_cuda(trainer.device):
        row.host_waits = len(count_host_waits(lambda: trainer.step(batch)))
    return row


def ratio(rows: list[Row], row: Row) -> float:
    """How many times as many samples a second ViLT trains as the model of `row`, with as many questions an image."""
    vilt = next(other for other in rows if other.model == 'ViLT' and other.questions == row.questions)
    return timing_ratio(row.seconds, vilt.seconds)


def table(rows: list[Row]) -> str:
    """All rows as a table in Markdown."""
    head = [
        'model',
        'images, pixels',
        'questions an image',
        'batch',
        'parameters, M',
        'GFLOP forward a sample',
        'samples/s (range)',
        'TFLOP/s',
        'peak memory, GB',
        f'epoch of {paper.TRAINING_QUESTIONS:,}, h',
        "the paper's, h",
        'ViLT is faster by',
    ]
    cells = [
        [
            row.model,
            row.pixels,
            row.questions,
            row.batch,
            f'{row.parameters / 1e6:.1f}',
            f'{row.forward_gflop:.4g}',
            f'{row.rate:,.4g} ({1 / max(row.seconds):,.4g} - {1 / min(row.seconds):,.4g})',
            f'{row.tflops:.3g}',
            '' if row.peak_gb is None else f'{row.peak_gb:.1f}',
            f'{row.epoch_hours:,.3g}',
            f'{PAPER_HOURS[row.model]:g}',
            '' if row.model == 'ViLT' else f'{ratio(rows, row):.2f}',
        ]
        for row in rows
    ]
    return markdown_table(head, cells)


def main(args: argparse.Namespace) -> None:
    import torch

    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.out and not Path(args.out).parent.is_dir():
        raise KoviltError(f'--out {args.out}: there is no folder {Path(args.out).parent}')
    machine = prepare_device(device)
    start = time.perf_counter()
    rows = measure(args, device)
    print(f'{machine}; {args.scale} size, median of {args.rounds} rounds, data loading left out\n')
    print(table(rows))
    print(f"\nThe paper's METER took {PAPER_HOURS['METER'] / PAPER_HOURS['ViLT']:g} times as long as its ViLT.")
    for row in rows:
        kernels = ', '.join(f'{name} {count}' for name, count in sorted(row.attention.items()))
        waits = '' if row.host_waits is None else f'; the host waits {row.host_waits} times a step'
        print(f'{row.model} {row.pixels}, {row.questions} an image: attention by {kernels}{waits}')
    print(f'{time.perf_counter() - start:.0f} s in all', file=sys.stderr)
    if args.out:
        figures = [
            {
                **asdict(row),
                'samples_per_second': row.rate,
                'tflops': row.tflops,
                'epoch_hours': row.epoch_hours,
                'paper_epoch_hours': PAPER_HOURS[row.model],
                'ratio': ratio(rows, row),
            }
            for row in rows
        ]
        report = {
            'machine': machine,
            'scale': args.scale,
            'rows_of_an_epoch': paper.TRAINING_QUESTIONS,
            'models': figures,
        }
        write_json(args.out, report)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
