"""The cost of models on their own data: parameters, multiply-adds of a question, training steps in turn on one machine.

    python -m benchmarks.model_cost --model METER configs/rooms/meter_vqa.py --model ViLT configs/rooms/vqa.py
    python -m benchmarks.model_cost --model ViLT configs/kovilt_vqa_aihub.py train_dataloader.batch_size=64

A step is what training does with a batch, mixed precision included (--amp): to the device, forward, backward,
optimizer; in wall time. Batches are read beforehand, so that neither the disk nor other processes that read count. The
models take turns, a round of steps each, and the median round counts. Multiply-adds are those of the forward pass of
one question, the mean over the first batch (benchmarks/flops.py).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.flops import forward_flops, without_numbers
from benchmarks.timing import cpu_name, describe_machine, device_clock, is_cuda, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli
from kovilt.files import write_json

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG'),
        help='a name, a training config and KEY=VALUE options for it; repeat for other models',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision, as in `kovilt train`')
    parser.add_argument('--batches', type=at_least(1), default=8, metavar='N', help='batches of a round (8)')
    parser.add_argument('--rounds', type=at_least(1), default=6, metavar='N', help='timed rounds (6), after one more')
    parser.add_argument('--out', type=Path, metavar='FILE', help='also write the results as JSON')
    args = parser.parse_args(argv)
    if any(len(words) < 2 for words in args.model):
        parser.error('--model takes a name and a config')
    return args


class MeasuredModel:
    """A model of a config with its optimizer and its first training batches."""

    def __init__(self, config: Config, *, batches: int, amp: bool) -> None:
        import torch
        from mmengine.device import get_device
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import DefaultScope

        from kovilt.engine.data_sizes import read_data_sizes
        from kovilt.engine.optim import mixed_precision
        from kovilt.engine.runner import KoviltRunner
        from kovilt.models.sizes import build_model, complete_model_config

        self.device: str = get_device()
        with DefaultScope.overwrite_default_scope(config.default_scope):
            loader = KoviltRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0}, seed=0)
            self.batches = list(itertools.islice(loader, batches))
            dataset: Any = loader.dataset
            self.rows, self.steps = len(dataset), len(loader)
            model_config = complete_model_config(
                config.model.to_dict(), data_sizes=read_data_sizes(dataset), tokenizer=dataset.tokenizer
            )
            torch.manual_seed(0)
            self.model = build_model(model_config).to(self.device).train()
            wrapper = mixed_precision(config.optim_wrapper, 'auto') if amp else config.optim_wrapper
            self.wrapper = build_optim_wrapper(self.model, wrapper)

    def train(self) -> None:
        """A training step on each batch."""
        for batch in self.batches:
            self.model.train_step(batch, self.wrapper)

    def multiply_adds(self) -> float:
        """Multiply-adds of one question's forward pass, the mean over the first batch; no question shares an image."""
        import torch

        model = without_numbers(self.model)
        shapes = []
        for batch in self.batches[0]:
            lengths = batch['text_mask'].sum(1).tolist()
            grids = batch['grids'][batch['image_index']].tolist()
            shapes += [(length, *grid, batch['patches'].shape[1]) for length, grid in zip(lengths, grids, strict=True)]
        counts: dict[tuple[int, ...], float] = {}
        for length, rows, columns, width in set(shapes):
            question: Any = {
                'patches': torch.zeros(rows * columns, width, dtype=torch.uint8, device='meta'),
                'grids': torch.tensor([[rows, columns]]),
                'image_index': torch.zeros(1, dtype=torch.int64),
                'input_ids': torch.ones(1, length, dtype=torch.int64),
                'text_mask': torch.ones(1, length, dtype=torch.bool),
            }
            counts[length, rows, columns, width] = forward_flops(model, question) / 2
        return statistics.mean(counts[shape] for shape in shapes)

    def results(self, seconds: list[float]) -> dict[str, Any]:
        """All results, given the seconds of a step by round; an epoch is without evaluation and reading of data."""
        step = statistics.median(seconds)
        texts = sum(len(part['input_ids']) for batch in self.batches for part in batch) / len(self.batches)
        return {
            'parameters': sum(parameter.numel() for parameter in self.model.parameters()),
            'multiply_adds': self.multiply_adds(),
            'seconds_per_step': step,
            'rounds': seconds,
            'questions_per_step': texts,
            'questions_per_second': texts / step,
            'rows': self.rows,
            'epoch_seconds': self.steps * step,
        }


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config
    from kovilt.evaluation.table import format_table

    models = {
        name: MeasuredModel(load_config(config, options), batches=args.batches, amp=args.amp)
        for name, config, *options in args.model
    }
    device = next(iter(models.values())).device
    clock = device_clock(device) if is_cuda(device) else wall_clock  # wall time, as training may use several threads
    seconds = time_in_turn({name: model.train for name, model in models.items()}, rounds=args.rounds, clock=clock)
    results = {
        name: model.results([whole / len(model.batches) for whole in seconds[name]]) for name, model in models.items()
    }
    rows = [
        [
            name,
            f'{one["parameters"]:,}',
            f'{one["multiply_adds"] / 1e9:.3f}',
            f'{1e3 * one["seconds_per_step"]:.1f}',
            f'{one["questions_per_second"]:,.0f}',
            f'{one["epoch_seconds"]:,.1f}',
        ]
        for name, one in results.items()
    ]
    head = ['model', 'parameters', '10^9 multiply-adds', 'ms a step', 'questions/s', 'seconds an epoch']
    print(f'{describe_machine(device)}\n{format_table(head, rows)}')
    if args.out:
        name = torch.cuda.get_device_name(device) if is_cuda(device) else cpu_name()
        write_json(args.out, {'device': name, 'threads': torch.get_num_threads(), 'amp': args.amp, 'models': results})


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
