"""Asking many questions about an image: PrefixViLT against the joint ViLT at base size, in training and in answering.

    python benchmarks/prefix.py                      # one image a step, one thread, the processor's time
    python benchmarks/prefix.py --device cuda        # bfloat16, 448 questions a step

Both encoders have the same weights and get the same batches; they are timed in turn, and a ratio is the median over the
rounds of each round's own. Training is forward and backward; what an update of all parameters adds, to both alike,
stands below. Beside each ratio stands that of the matrix products (benchmarks/work.py). At last VQAInferencer is
asked about image files, from the file to the answer: once about a new one, then again about the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import prepare_device, ratio, seconds, time_in_turn  # noqa: E402
from benchmarks.work import (  # noqa: E402
    base_model,
    draw_grids,
    draw_lengths,
    forward_flops,
    make_batch,
    same_weights,
    save_folder,
)
from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

SIDES = (640, 480)  # of the image files, in pixels
ASKED = ('소파는 무슨 색이에요?', '의자가 몇 개 있어요?')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument(
        '--questions', type=int, nargs='+', default=[1, 2, 4, 7, 14], metavar='K', help='an image (1 2 4 7 14)'
    )
    parser.add_argument(
        '--texts', type=int, metavar='N', help='questions of a step, at least one image (1; on cuda 448)'
    )
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each is timed (5)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import torch

    if min(args.rounds, *args.questions, 1 if args.texts is None else args.texts) < 1:
        raise KoviltError('--questions, --texts and --rounds must be at least 1')
    machine, computing = prepare_device(args.device)
    texts = args.texts or (448 if args.device.startswith('cuda') else 1)
    joint = base_model(args.device)
    models = {'joint': joint, 'prefix': same_weights(joint, 'PrefixViLT')}
    chance = torch.Generator().manual_seed(0)
    batches = {}
    for count in args.questions:
        images = max(1, texts // count)
        batches[count] = make_batch(draw_grids(images, chance), draw_lengths(images * count, chance), chance)
    print(f'{machine}; {args.rounds} rounds; ms a question\n')
    for work, run in (('training', train), ('answering', answer)):
        taken = time_in_turn(
            {
                (name, count): lambda m=model, b=batch, r=run: r(m, b, computing)
                for name, model in models.items()
                for count, batch in batches.items()
            },
            rounds=args.rounds,
            device=args.device,
            warm_ups=int(args.device.startswith('cuda')),
        )
        print(f'| {work}: questions an image | images a step | joint | prefix | ratio | by arithmetic |')
        print('|---:|---:|---:|---:|---:|---:|')
        for count, batch in batches.items():
            each = {name: statistics.median(taken[name, count]) / len(batch['label']) * 1e3 for name in models}
            law = forward_flops(joint, batch) / forward_flops(models['prefix'], batch)
            print(
                f'| {count} | {len(batch["grids"])} | {each["joint"]:.2f} | {each["prefix"]:.2f} | '
                f'{ratio(taken["joint", count], taken["prefix", count]):.2f} | {law:.2f} |'
            )
        print()
    print(f'an update of all parameters (fused AdamW): {update_seconds(joint, args) * 1e3:.1f} ms a step\n')
    for model in models.values():
        model.zero_grad(set_to_none=True)
    firsts, again = first_and_second(models['prefix'].eval(), args, computing)
    print(
        f'VQAInferencer, PrefixViLT, file to answer: first question about an image '
        f'{statistics.median(firsts) * 1e3:.1f} ms, the next {statistics.median(again) * 1e3:.1f} ms, '
        f'ratio {ratio(firsts, again):.1f}'
    )


def train(model: ViLTForVQA, batch: Batch, computing: Callable[[], AbstractContextManager]) -> None:
    """Forward and backward; gradients are added to what is there."""
    model.train()
    with computing():
        loss = model.losses(model.data_preprocessor(batch))['vqa_loss']
    loss.backward()


def answer(model: ViLTForVQA, batch: Batch, computing: Callable[[], AbstractContextManager]) -> None:
    """Scores of all answers."""
    import torch

    model.eval()
    with torch.inference_mode(), computing():
        model.scores(model.data_preprocessor(batch))


def update_seconds(model: ViLTForVQA, args: argparse.Namespace) -> float:
    """Median seconds of an optimizer's step; a step of length zero, as the model is asked again."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    return statistics.median(time_in_turn({'': optimizer.step}, rounds=args.rounds, device=args.device)[''])


def first_and_second(
    model: ViLTForVQA, args: argparse.Namespace, computing: Callable[[], AbstractContextManager]
) -> tuple[list[float], list[float]]:
    """Seconds of a question about an image that was not seen before, and of another about the same, by round."""
    from kovilt.apis import VQAInferencer

    with tempfile.TemporaryDirectory() as folder:
        place = save_folder(model, Path(folder, 'model'))
        ask = VQAInferencer(place, device=args.device, image_cache_size=1)
        files = [_write_image(Path(folder, f'{number}.jpg'), number) for number in range(2)]
        firsts, again = [], []
        for number in range(-2, args.rounds):
            times = [seconds(args.device)]
            for question in ASKED:
                with computing():
                    ask(files[number % 2], question)  # each image makes the other forgotten
                times.append(seconds(args.device))
            if number >= 0:
                firsts.append(times[1] - times[0])
                again.append(times[2] - times[1])
    return firsts, again


def _write_image(file: Path, seed: int) -> Path:
    """A JPEG about as hard to decode as a photo: soft shapes under fine noise."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shapes = coarse.resize(SIDES, Image.Resampling.BICUBIC)
    noise = chance.normal(0, 8, (SIDES[1], SIDES[0], 3))
    Image.fromarray((np.asarray(shapes) + noise).clip(0, 255).astype(np.uint8)).save(file, quality=95)
    return file


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
