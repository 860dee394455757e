"""How the cost grows: time and peak memory against batch, image, text, questions an image and rows of data.

    python benchmarks/scaling.py                     # one thread, the processor's time
    python benchmarks/scaling.py --device cuda       # bfloat16, larger batches, without rows of data

A step is forward and backward of the base-size model. Beside what was measured stands the expected law: a fixed cost
and a price, fitted to all sweeps of an encoder at once, for time of the operations of the matrix products
(benchmarks/work.py), for memory of the rows of words and patches that training keeps in every block, for rows of
data of their number. Memory is what a step takes on top of weights and gradients: on a GPU torch's own peak, on a CPU
the peak of the resident memory (Linux) of a forked process that does nothing else. Texts beyond the 40 tokens of the
configs are here for the law's sake.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import multiprocessing
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import prepare_device, time_in_turn  # noqa: E402
from benchmarks.work import base_model, forward_flops, make_batch, same_weights  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

GRID, WORDS, LONGEST_TEXT = (12, 16), 13, 320  # where a sweep does not change them
WIDTH = 768  # D, of the base size
SIDES = (4, 8, 12, 16, 24)  # of a square image, in patches of 32 pixels
TEXTS = (10, 40, 80, 160, 320)  # tokens
QUESTIONS = (1, 2, 4, 7, 14)  # an image
ROWS = (20_000, 40_000, 80_000, 160_000)
NAMES = {
    'batch': 'pairs',
    'image': 'patches of an image',
    'text': 'tokens of a text',
    'questions': 'questions an image',
    'prefix': 'questions an image, PrefixViLT',
    'rows': 'rows of data',
}
GROUPS = (('batch', 'image', 'text', 'questions'), ('prefix',), ('rows',))  # what one law is fitted to
# What a block keeps of a row for the backward pass, by whether in bfloat16 on a GPU, in bytes over D. In float32 on a
# CPU 23 numbers: 4 of the norms, 3 of queries, keys and values, 2 of what they found, 8 of the MLP, and 6 of dropout,
# whose masks are numbers there. On a GPU the residual stream is float32 (8), all else 2 bytes (28), a mask's 1 (6).
ROW_BYTES = {False: 23 * 4, True: 42}
KEYS_VALUES_BYTES = {False: 2 * 4, True: 2 * 2}
MB = 2**20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument('--only', nargs='+', choices=NAMES, help='these sweeps alone (all; on cuda all but rows)')
    parser.add_argument('--pairs', type=int, metavar='N', help='of a step where the batch stays as it is (1; cuda 64)')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each point is timed (5)')
    parser.add_argument('--plot', default='work_dirs/scaling.png', metavar='FILE', help='(work_dirs/scaling.png)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Point:
    """One size of a sweep, what its cost should be proportional to beside what is fixed, and the work itself."""

    size: int
    operations: float
    rows: float
    run: Callable[[], object]


@dataclass(frozen=True)
class Law:
    """cost = fixed + price x amount, fitted so that relative errors are least; a fixed cost is never negative."""

    fixed: float
    price: float

    @classmethod
    def through(cls, amounts: Sequence[float], costs: Sequence[float]) -> Law:
        import numpy as np

        x, y = np.asarray(amounts, float), np.asarray(costs, float)
        fixed, price = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)[0]
        if fixed < 0:
            fixed, price = 0.0, float((x / y).sum() / ((x / y) ** 2).sum())
        return cls(float(fixed), float(price))

    def __call__(self, amount: float) -> float:
        return self.fixed + self.price * amount


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep with their seconds and bytes, measured and by the laws."""

    name: str
    points: Sequence[Point]
    seconds: Sequence[float]
    bytes: Sequence[float]
    time_law: Law
    memory_law: Law

    def columns(self) -> tuple[Sequence[float], ...]:
        """Seconds, seconds by the law, bytes, bytes by the law."""
        return (
            self.seconds,
            [self.time_law(point.operations) for point in self.points],
            self.bytes,
            [self.memory_law(point.rows) for point in self.points],
        )

    def power(self, values: Sequence[float]) -> float:
        """The power of the size with which values grow: the slope on logarithmic axes."""
        return statistics.linear_regression(
            [math.log(point.size) for point in self.points], [math.log(value) for value in values]
        ).slope


def main(args: argparse.Namespace) -> None:
    on_gpu = args.device.startswith('cuda')
    if args.rounds < 1 or (args.pairs is not None and args.pairs < 1):
        raise KoviltError('--rounds and --pairs must be at least 1')
    names = args.only or [name for name in NAMES if not (on_gpu and name == 'rows')]
    machine, _ = prepare_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        points = step_sweeps(args, names) if set(names) - {'rows'} else {}
        if 'rows' in names:
            points['rows'] = data_points(Path(folder))
        every = [(name, point) for name, several in points.items() for point in several]
        memory = {(name, point.size): _peak(point.run, args.device) for name, point in every}
        # the processes that memory was measured in are gone and have warmed up nothing here
        taken = time_in_turn(
            {(name, point.size): point.run for name, point in every},
            rounds=args.rounds,
            device=args.device,
            warm_ups=int(on_gpu),
        )
    print(f'{machine}; {args.rounds} rounds')
    sweeps = []
    for group in GROUPS:
        costs = [
            (name, point, statistics.median(taken[name, point.size]), memory[name, point.size])
            for name, point in every
            if name in group
        ]
        if not costs:
            continue
        time_law = Law.through([cost[1].operations for cost in costs], [cost[2] for cost in costs])
        memory_law = Law.through([cost[1].rows for cost in costs], [cost[3] for cost in costs])
        for name in (name for name in points if name in group):
            mine = [cost for cost in costs if cost[0] == name]
            sweeps.append(
                Sweep(name, points[name], [cost[2] for cost in mine], [cost[3] for cost in mine], time_law, memory_law)
            )
            print(f'\n{table(sweeps[-1])}')
        print(f'\n{said(group, time_law, memory_law, on_gpu)}')
    plot(sweeps, Path(args.plot), machine)
    print(f'\n{args.plot}')


def step_sweeps(args: argparse.Namespace, names: Sequence[str]) -> dict[str, list[Point]]:
    """The points of all sweeps over training steps; one batch a point, its content random."""
    import torch

    on_gpu = args.device.startswith('cuda')
    pairs = args.pairs or (64 if on_gpu else 1)
    joint = base_model(args.device, max_text_len=LONGEST_TEXT)
    prefix = same_weights(joint, 'PrefixViLT')
    _, computing = prepare_device(args.device)
    for model in (joint, prefix):
        model.train()
    chance = torch.Generator().manual_seed(0)

    def point(size: int, grid: tuple[int, int], images: int, words: int, each: int = 1, model=joint) -> Point:
        batch = make_batch([grid] * images, [words] * images * each, chance)

        def run() -> None:
            with computing():
                loss = model.losses(model.data_preprocessor(batch))['vqa_loss']
            loss.backward()

        return Point(size, forward_flops(model, batch), rows_kept(model, batch, on_gpu), run)

    several = [pairs * factor for factor in ((1, 2, 4, 8) if on_gpu else (1, 2, 4))]
    some = max(1, pairs // 2)
    made = {
        'batch': lambda: [point(n, GRID, n, WORDS) for n in several],
        'image': lambda: [point(side * side, (side, side), pairs, WORDS) for side in SIDES],
        'text': lambda: [point(words, GRID, pairs, words) for words in TEXTS],
        'questions': lambda: [point(k, GRID, some, WORDS, k) for k in QUESTIONS],
        'prefix': lambda: [point(k, GRID, some, WORDS, k, prefix) for k in QUESTIONS],
    }
    return {name: made[name]() for name in names if name in made}


def rows_kept(model: ViLTForVQA, batch: Batch, on_gpu: bool) -> float:
    """Rows of words and patches whose states training keeps, summed over the blocks.

    The prefix keeps an image's rows once, and of them once more for each question the keys and values.
    """
    from kovilt.modules import PrefixViLT

    words = int(batch['text_mask'].sum())
    images = batch['grids'].prod(dim=1) + 1
    seen = int(images[batch['image_index']].sum())
    rows = words + seen
    if isinstance(model.encoder, PrefixViLT):
        again = KEYS_VALUES_BYTES[on_gpu] / ROW_BYTES[on_gpu]
        rows = words + int(images.sum()) + (words + seen) * again
    return rows * len(model.encoder.blocks)


def data_points(folder: Path) -> list[Point]:
    """Opening sets of AI-Hub 101's layout."""
    from mmengine.logging import MMLogger

    from benchmarks.dataset_memory import write_set
    from kovilt.datasets import AIHubLivingVQA

    MMLogger.get_current_instance().setLevel('WARNING')  # what is in the sets is known
    points = []
    for rows in ROWS:
        place = folder / str(rows)
        (place / 'Training').mkdir(parents=True)
        write_set(place / 'Training', rows)
        points.append(
            Point(
                rows,
                rows,
                rows,
                lambda place=place: AIHubLivingVQA(
                    data_root=str(place), answers={'min_count': 6}, image_pipeline=[], text_pipeline=[]
                ),
            )
        )
    return points


def _peak(run: Callable[[], object], device: str) -> float:
    """Bytes that `run` takes at most on top of what is there before."""
    if device.startswith('cuda'):
        import torch

        run()  # gradients are there from now on
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(run, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError as error:
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise  # the process has said why
        raise KoviltError('a point took more memory than there is; leave it out by --only or --pairs') from error
    finally:
        process.join()


def _measure(run: Callable[[], object], answer) -> None:
    """In a process of its own: sends how far the resident memory has risen while `run` ran."""
    for parameter in _parameters(run):
        parameter.grad = parameter.detach().clone()  # clone: zeros would take no memory before they are written
    _give_back()
    before = _resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # the peak is counted anew
    run()
    answer.send(max(_resident('VmHWM') - before, 4096))  # a page, where nothing was to be seen


def _give_back() -> None:
    """Hand freed memory to the system, which glibc keeps: taken again, it would not be seen to rise."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def _parameters(run: Callable[[], object]):
    """The parameters of the model that a step closes over; none of what is no step."""
    from torch import nn

    cells = [cell.cell_contents for cell in run.__closure__ or ()]
    return [parameter for cell in cells if isinstance(cell, nn.Module) for parameter in cell.parameters()]


def _resident(name: str) -> int:
    try:
        lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise KoviltError('memory on a CPU is read from /proc, which only Linux has') from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def table(sweep: Sweep) -> str:
    """What was measured beside the laws, and how fast all four grow."""
    columns = sweep.columns()
    lines = [f'| {NAMES[sweep.name]} | ms | by the law | MB | by the law |', '|---:|---:|---:|---:|---:|']
    for point, *values in zip(sweep.points, *columns, strict=True):
        cells = [f'{value * factor:,.0f}' for value, factor in zip(values, (1e3, 1e3, 1 / MB, 1 / MB), strict=True)]
        lines.append(f'| {point.size:,} | {" | ".join(cells)} |')
    lines.append(f'| grows with the power | {" | ".join(f"{sweep.power(column):.2f}" for column in columns)} |')
    return '\n'.join(lines)


def said(group: Sequence[str], time_law: Law, memory_law: Law, on_gpu: bool) -> str:
    """The laws of a group in words."""
    fixed = f'fixed: {time_law.fixed * 1e3:,.0f} ms and {memory_law.fixed / MB:,.0f} MB'
    if 'rows' in group:
        return f'{fixed}; a row: {time_law.price * 1e6:.1f} us and {memory_law.price:.0f} bytes'
    return (
        f'{fixed}; {1e-9 / time_law.price:,.0f} GFLOP/s; a row takes {memory_law.price / WIDTH:.0f} D bytes in every '
        f'block, {ROW_BYTES[on_gpu]} D by counting'
    )


def plot(sweeps: Sequence[Sweep], file: Path, title: str) -> None:
    """Time above, memory below, on logarithmic axes; the laws as lines."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(sweeps), figsize=(3 * len(sweeps), 5.6), squeeze=False, layout='constrained')
    for column, sweep in enumerate(sweeps):
        sizes = [point.size for point in sweep.points]
        columns = sweep.columns()
        for row, (name, unit, factor) in enumerate((('time', 'ms', 1e3), ('memory', 'MB', 1 / MB))):
            measured, expected = columns[2 * row : 2 * row + 2]
            axis = axes[row, column]
            axis.loglog(sizes, [value * factor for value in expected], color='0.6', label='law')
            axis.loglog(sizes, [value * factor for value in measured], 'o', color='C0', label='measured')
            axis.set_xticks(sizes, [f'{size:,}' for size in sizes], rotation=45)
            axis.minorticks_off()
            axis.set_xlabel(NAMES[sweep.name])
            axis.set_ylabel(f'{name}, {unit}')
            axis.text(
                0.05,
                0.9,
                f'power {sweep.power(measured):.2f}, law {sweep.power(expected):.2f}',
                transform=axis.transAxes,
            )
    axes[0, 0].legend(loc='lower right')
    figure.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
