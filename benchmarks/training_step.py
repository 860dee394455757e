"""A training step in float32 and in bfloat16 (`--amp`), in turn on the same batches: median wall time and ratio.

    python -m benchmarks.training_step configs/rooms/pretrain.py

Images are noise and texts random, in the shapes of Rooms (squares for METER), so no data is needed. Every batch has its
own lengths. A ratio above 1 means that bfloat16 is faster.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.fixtures import FIRST_TOKEN, make_batch, sample_grids, sample_lengths
from benchmarks.timing import describe_machine, ratio, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper

    from kovilt.batch import Batch

VOCAB_SIZE, NUM_ANSWERS = 1000, 30
TEXT_LENGTHS = (8, 25)  # tokens
SHAPES = ((1, 1), (3, 4), (4, 3), (2, 3), (5, 9))  # height : width of an image
WARM_UPS = 3  # steps
PRECISIONS = ('float32', 'bfloat16')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='a training config')
    parser.add_argument('--texts', type=at_least(2), default=64, metavar='N', help='pairs of a batch (64)')
    parser.add_argument('--steps', type=at_least(1), default=20, metavar='N', help='timed steps in each precision (20)')
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


def make_trainer(config: Config, precision: str) -> tuple[BaseModel, OptimWrapper]:
    """The config's model with new weights and its optimizer, for random batches."""
    import torch

    from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision
    from kovilt.models.sizes import build_model, complete_model_config

    sizes = {
        'vocab_size': VOCAB_SIZE,
        'mask_token_id': 4,
        'special_token_ids': list(range(FIRST_TOKEN)),
        'num_answers': NUM_ANSWERS,
    }
    torch.manual_seed(0)
    model = build_model(complete_model_config(config.model.to_dict(), data_sizes=sizes)).train()
    wrapper = {'type': 'ViLTOptimWrapper', 'optimizer': dict(config.optim_wrapper.optimizer), 'clip_grad': None}
    wrapper = mixed_precision(wrapper, precision) if precision == 'bfloat16' else wrapper
    return model, ViLTOptimWrapperConstructor(wrapper)(model)


def main(args: argparse.Namespace) -> None:
    from kovilt.engine.config import load_config

    config = load_config(args.config, [], {})
    batches = make_batches(config, args.texts, args.steps)
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


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
