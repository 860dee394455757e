"""Several questions about one image: PrefixViLT against the joint ViLT at base size, in training and in answering.

    python -m benchmarks.prefix                      # one image a step, one thread, processor time
    python -m benchmarks.prefix --device cuda        # bfloat16, 448 questions a step, wall time

Both encoders have the same weights and get the same batches, in turn. A ratio is the median over the rounds of each
round's own ratio; above 1 PrefixViLT is faster. Beside it stands the ratio of the FLOPs (benchmarks/flops.py). Training
is forward and backward; the optimizer's update of all parameters, the same for both, is given below the tables. Finally
VQAInferencer answers two questions about an image file, from the file to the answer: the first encodes the image, the
second finds it in the cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fixtures import (
    base_model,
    make_batch,
    sample_grids,
    sample_lengths,
    save_folder,
    with_encoder,
)
from benchmarks.flops import forward_flops
from benchmarks.report import markdown_table
from benchmarks.synthetic_data import write_jpeg
from benchmarks.timing import autocast, device_clock, is_cuda, prepare_device, ratio, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

IMAGE_SIZE = (640, 480)  # pixels
FIRST, SECOND = '소파는 무슨 색이에요?', '의자가 몇 개 있어요?'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument(
        '--questions', type=positive, nargs='+', default=[1, 2, 4, 7, 14], metavar='K', help='an image (1 2 4 7 14)'
    )
    parser.add_argument(
        '--texts', type=positive, metavar='N', help='questions of a step, at least one image (1; on cuda 448)'
    )
    parser.add_argument('--layers', type=positive, default=12, metavar='N', help='blocks of the encoder (12)')
    parser.add_argument('--rounds', type=positive, default=5, metavar='N', help='timings of each measurement (5)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import torch

    machine = prepare_device(args.device)
    texts = args.texts or (448 if is_cuda(args.device) else 1)
    joint = base_model(args.device, num_layers=args.layers)
    prefix = with_encoder(joint, 'PrefixViLT')
    rng = torch.Generator().manual_seed(0)
    batches = {}
    for questions in args.questions:
        images = max(1, texts // questions)
        batches[questions] = make_batch(sample_grids(images, rng), sample_lengths(images * questions, rng), rng)
    print(f'{machine}; {args.rounds} rounds; ms a question\n')
    for name, run in (('training', train), ('answering', answer)):
        print(f'{compare(name, run, joint, prefix, batches, args)}\n')
    print(f'the update of all parameters (fused AdamW): {update_seconds(joint, args) * 1e3:.1f} ms a step\n')
    joint.zero_grad(set_to_none=True)
    prefix.zero_grad(set_to_none=True)
    first, second = first_and_second_answer(prefix.eval(), args)
    print(
        f'VQAInferencer, PrefixViLT, file to answer: first question about an image '
        f'{statistics.median(first) * 1e3:.1f} ms, the next {statistics.median(second) * 1e3:.1f} ms, '
        f'ratio {ratio(first, second):.1f}'
    )


def compare(
    name: str,
    run: Callable[[ViLTForVQA, Batch, str], None],
    joint: ViLTForVQA,
    prefix: ViLTForVQA,
    batches: dict[int, Batch],
    args: argparse.Namespace,
) -> str:
    """A table of the times of both models by questions an image."""
    models = {'joint': joint, 'prefix': prefix}
    seconds = time_in_turn(
        {
            (encoder, questions): partial(run, model, batch, args.device)
            for encoder, model in models.items()
            for questions, batch in batches.items()
        },
        rounds=args.rounds,
        clock=device_clock(args.device),
        warm_ups=int(is_cuda(args.device)),
    )
    rows = []
    for questions, batch in batches.items():
        each = [statistics.median(seconds[encoder, questions]) / len(batch['label']) * 1e3 for encoder in models]
        rows.append(
            [
                questions,
                len(batch['grids']),
                *(f'{milliseconds:.2f}' for milliseconds in each),
                f'{ratio(seconds["joint", questions], seconds["prefix", questions]):.2f}',
                f'{forward_flops(joint, batch) / forward_flops(prefix, batch):.2f}',
            ]
        )
    head = [f'{name}: questions an image', 'images a step', 'joint', 'prefix', 'ratio', 'ratio of FLOPs']
    return markdown_table(head, rows)


def train(model: ViLTForVQA, batch: Batch, device: str) -> None:
    """Forward and backward; gradients accumulate."""
    model.train()
    with autocast(device):
        loss = model.losses(model.data_preprocessor(batch))['vqa_loss']
    loss.backward()


def answer(model: ViLTForVQA, batch: Batch, device: str) -> None:
    """The scores of all answers."""
    import torch

    model.eval()
    with torch.inference_mode(), autocast(device):
        model.scores(model.data_preprocessor(batch))


def update_seconds(model: ViLTForVQA, args: argparse.Namespace) -> float:
    """Median seconds of an optimizer step, at a learning rate of 0, as the model is used again."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    seconds = time_in_turn({'update': optimizer.step}, rounds=args.rounds, clock=device_clock(args.device))
    return statistics.median(seconds['update'])


def first_and_second_answer(model: ViLTForVQA, args: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds of the first question about an image and of the second one about the same image, by round."""
    from kovilt.apis import VQAInferencer

    clock = device_clock(args.device)
    with tempfile.TemporaryDirectory() as folder:
        inferencer = VQAInferencer(save_folder(model, Path(folder, 'model')), device=args.device, image_cache_size=1)
        files = [write_jpeg(Path(folder, f'{seed}.jpg'), IMAGE_SIZE, seed) for seed in range(2)]
        first, second = [], []
        for number in range(-2, args.rounds):  # the first two are not counted
            times = [clock()]
            for question in (FIRST, SECOND):
                with autocast(args.device):
                    inferencer(files[number % 2], question)  # the cache holds one image, so each replaces the other
                times.append(clock())
            if number >= 0:
                first.append(times[1] - times[0])
                second.append(times[2] - times[1])
    return first, second


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
