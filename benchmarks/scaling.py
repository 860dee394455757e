"""How the cost grows: time and peak memory by batch, image, text, questions an image, and rows of data.

    python -m benchmarks.scaling                     # one thread, processor time
    python -m benchmarks.scaling --device cuda       # bfloat16, larger batches, without rows of data

A step is forward and backward of the base-size model. Beside the measurement stands the expected law, a fixed cost plus
a price per amount, fitted to all sweeps of an encoder at once. The amounts are: for time the FLOPs
(benchmarks/flops.py), for memory the states of tokens and patches that every block stores for the backward pass, for
data its rows. Memory is what a step takes above weights and gradients: on a GPU torch's own peak, on a CPU the peak of
the resident memory (Linux) of a forked process. Texts longer than the 40 tokens of the configs are there to test the
law.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fixtures import base_model, make_batch, with_encoder
from benchmarks.flops import forward_flops
from benchmarks.memory import MB, peak_memory, peak_memory_in_fork
from benchmarks.scaling_laws import Law, Point, Sweep, plot_sweeps
from benchmarks.synthetic_data import write_zip_set
from benchmarks.timing import autocast, device_clock, is_cuda, prepare_device, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

GRID, TOKENS, MAX_TEXT_LEN = (12, 16), 13, 320  # where a sweep does not vary them
HIDDEN_SIZE = 768  # D, of the base size
SIDES = (4, 8, 12, 16, 24)  # of a square image, in patches of 32 pixels
TEXTS = (10, 40, 80, 160, 320)  # tokens
QUESTIONS = (1, 2, 4, 7, 14)  # an image
ROWS = (20_000, 40_000, 80_000, 160_000)
LABELS = {
    'batch': 'pairs',
    'image': 'patches of an image',
    'text': 'tokens of a text',
    'questions': 'questions an image',
    'prefix': 'questions an image, PrefixViLT',
    'rows': 'rows of data',
}
GROUPS = (('batch', 'image', 'text', 'questions'), ('prefix',), ('rows',))  # what one law is fitted to
# What a block stores of a state for the backward pass, in bytes over D, by whether on a GPU. In float32 on a CPU 23
# numbers: 4 of the norms, 3 of queries, keys and values, 2 of attention's output, 8 of the MLP, and 6 of dropout, whose
# masks are numbers there. In bfloat16 on a GPU the residual stream is float32 (8), all else 2 bytes (28), masks 1 (6).
STATE_BYTES = {False: 23 * 4, True: 42}
KEYS_VALUES_BYTES = {False: 2 * 4, True: 2 * 2}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument('--only', nargs='+', choices=LABELS, help='these sweeps alone (all; on cuda all but rows)')
    parser.add_argument(
        '--pairs', type=at_least(1), metavar='N', help='of a step where the batch is not varied (1; on cuda 64)'
    )
    parser.add_argument('--layers', type=at_least(1), default=12, metavar='N', help='blocks of the encoder (12)')
    parser.add_argument('--rounds', type=at_least(1), default=5, metavar='N', help='timings of each point (5)')
    parser.add_argument('--plot', default='work_dirs/scaling.png', metavar='FILE', help='(work_dirs/scaling.png)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    on_gpu = is_cuda(args.device)
    names = args.only or [name for name in LABELS if not (on_gpu and name == 'rows')]
    machine = prepare_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        points = step_points(args, names) if set(names) - {'rows'} else {}
        if 'rows' in names:
            points['rows'] = data_points(Path(folder))
        every = {(name, point.size): point for name, sweep in points.items() for point in sweep}
        memory = {key: measure_memory(point, args.device) for key, point in every.items()}
        seconds = time_in_turn(
            {key: point.run for key, point in every.items()},
            rounds=args.rounds,
            clock=device_clock(args.device),
            warm_ups=int(on_gpu),
        )
    print(f'{machine}; {args.rounds} rounds')
    sweeps = []
    for group in GROUPS:
        keys = [key for key in every if key[0] in group]
        if not keys:
            continue
        times = {key: statistics.median(seconds[key]) for key in keys}
        time_law = Law.fit([every[key].flops for key in keys], list(times.values()))
        memory_law = Law.fit([every[key].states for key in keys], [memory[key] for key in keys])
        for name in (name for name in points if name in group):
            own = [key for key in keys if key[0] == name]
            sweeps.append(
                Sweep(
                    LABELS[name],
                    points[name],
                    [times[key] for key in own],
                    [memory[key] for key in own],
                    time_law,
                    memory_law,
                )
            )
            print(f'\n{sweeps[-1].table()}')
        print(f'\n{describe_laws(group, time_law, memory_law, on_gpu)}')
    plot_sweeps(sweeps, Path(args.plot), machine)
    print(f'\n{args.plot}')


def step_points(args: argparse.Namespace, names: Sequence[str]) -> dict[str, list[Point]]:
    """The points of all sweeps over training steps, each with one random batch."""
    import torch

    on_gpu = is_cuda(args.device)
    pairs = args.pairs or (64 if on_gpu else 1)
    joint = base_model(args.device, max_text_len=MAX_TEXT_LEN, num_layers=args.layers)
    prefix = with_encoder(joint, 'PrefixViLT')
    joint.train()
    prefix.train()
    rng = torch.Generator().manual_seed(0)

    def point(
        size: int, grid: tuple[int, int], images: int, tokens: int, each: int = 1, model: ViLTForVQA = joint
    ) -> Point:
        batch = make_batch([grid] * images, [tokens] * images * each, rng)

        def run() -> None:
            with autocast(args.device):
                loss = model.losses(model.data_preprocessor(batch))['vqa_loss']
            loss.backward()

        def allocate_gradients() -> None:
            for parameter in model.parameters():  # clone: zeros would take no memory before they are written to
                parameter.grad = parameter.detach().clone()

        flops = forward_flops(model, batch)
        return Point(size, flops, count_stored_states(model, batch, on_gpu), run, allocate_gradients)

    sizes = [pairs * factor for factor in ((1, 2, 4, 8) if on_gpu else (1, 2, 4))]
    images = max(1, pairs // 2)
    sweeps: dict[str, Callable[[], list[Point]]] = {
        'batch': lambda: [point(n, GRID, n, TOKENS) for n in sizes],
        'image': lambda: [point(side * side, (side, side), pairs, TOKENS) for side in SIDES],
        'text': lambda: [point(tokens, GRID, pairs, tokens) for tokens in TEXTS],
        'questions': lambda: [point(k, GRID, images, TOKENS, k) for k in QUESTIONS],
        'prefix': lambda: [point(k, GRID, images, TOKENS, k, prefix) for k in QUESTIONS],
    }
    return {name: sweeps[name]() for name in names if name in sweeps}


def count_stored_states(model: ViLTForVQA, batch: Batch, on_gpu: bool) -> float:
    """The states of tokens and patches that training stores, summed over the blocks.

    PrefixViLT stores the states of an image once, and copies of the keys and values that its texts attend to: on a GPU
    one for every text, on a CPU one for the texts that attend together (`modules/prefix_attention.py`).
    """
    import torch

    from kovilt.modules import PrefixViLT
    from kovilt.modules.prefix_attention import TextAttention

    tokens = int(batch['text_mask'].sum())
    patch_counts = batch['grids'].prod(dim=1)
    images = patch_counts + 1
    attended = int(images[batch['image_index']].sum())
    states: float = tokens + attended
    if isinstance(model.encoder, PrefixViLT):
        if not on_gpu:
            packing = model.encoder.make_packing(
                batch['text_mask'], batch['grids'], batch['image_index'], torch.device('cpu')
            )
            attended = sum(int(images[chunk.image]) for chunk in TextAttention(packing, patch_counts).chunks)
        again = KEYS_VALUES_BYTES[on_gpu] / STATE_BYTES[on_gpu]
        states = tokens + int(images.sum()) + (tokens + attended) * again
    return states * len(model.encoder.blocks)


def data_points(folder: Path) -> list[Point]:
    """Opening data sets in AI-Hub 101's layout."""
    from mmengine.logging import MMLogger

    from kovilt.datasets import AIHubLivingReader, QuestionDataset

    MMLogger.get_current_instance().setLevel('WARNING')  # no summary of each set
    points = []
    for rows in ROWS:
        write_zip_set(folder / str(rows), rows)

        def run(root: str = str(folder / str(rows))) -> object:
            return QuestionDataset(
                reader=AIHubLivingReader(data_root=root, split='train'),
                answers={'min_count': 6},
                image_pipeline=[],
                text_pipeline=[],
            )

        points.append(Point(rows, rows, rows, run))
    return points


def measure_memory(point: Point, device: str) -> int:
    """The peak memory of a point in bytes."""
    if is_cuda(device):
        point.prepare()
        point.run()
        return peak_memory(point.run, device)
    return peak_memory_in_fork(point.run, before=point.prepare)


def describe_laws(group: Sequence[str], time_law: Law, memory_law: Law, on_gpu: bool) -> str:
    """The fixed costs and the prices of a group in one line."""
    fixed = f'fixed: {time_law.fixed * 1e3:,.0f} ms and {memory_law.fixed / MB:,.0f} MB'
    if 'rows' in group:
        return f'{fixed}; a row: {time_law.price * 1e6:.1f} us and {memory_law.price:.0f} bytes'
    return (
        f'{fixed}; {1e-9 / time_law.price:,.0f} GFLOP/s; a state takes {memory_law.price / HIDDEN_SIZE:.0f} D bytes in '
        f'every block, {STATE_BYTES[on_gpu]} D by counting'
    )


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
