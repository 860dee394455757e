#!/usr/bin/env python
"""What models cost on their own data: parameters, multiply-adds of a question, training steps in turn on one machine.

    python benchmarks/model_cost.py --model METER configs/rooms/meter_vqa.py --model ViLT configs/rooms/vqa.py
    python benchmarks/model_cost.py --model ViLT configs/kovilt_vqa_aihub.py train_dataloader.batch_size=64

A step is what training does with a batch, mixed precision included (--amp): to the device, forward, backward,
optimizer. Batches are drawn and read beforehand, so that neither the disk nor other processes that read count. Models
take turns, a round of steps each, and the median round counts. Multiply-adds are those of one forward pass of one
question, the mean over those of the first batch, counted without computing anything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG'),
        help='a name, a config of training and KEY=VALUE options for it; repeat for others',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision, as in tools/train.py')
    parser.add_argument('--batches', type=int, default=8, metavar='N', help='batches of a round (8)')
    parser.add_argument('--rounds', type=int, default=6, metavar='N', help='rounds that count (6), after one more')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write what is found as JSON too')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    args = parser.parse_args()
    if any(len(words) < 2 for words in args.model):
        parser.error('--model takes a name and a config')
    return args


class Measured:
    """A model of a config with its optimizer and its first training batches."""

    def __init__(self, config, *, batches: int, amp: bool) -> None:
        import torch
        from mmengine.device import get_device
        from mmengine.optim import build_optim_wrapper
        from mmengine.registry import DefaultScope

        from kovilt.engine.optim import mixed_precision
        from kovilt.engine.runner import KoviltRunner, data_sizes
        from kovilt.models.sizes import build_model, complete_model_config

        self.device = get_device()
        with DefaultScope.overwrite_default_scope(config.default_scope):
            loader = KoviltRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0}, seed=0)
            self.batches = list(itertools.islice(loader, batches))
            self.rows, self.steps = len(loader.dataset), len(loader)
            self.model_config = complete_model_config(
                config.model.to_dict(), data_sizes=data_sizes(loader.dataset), tokenizer=loader.dataset.tokenizer
            )
            torch.manual_seed(0)
            self.model = build_model(self.model_config).to(self.device).train()
            wrapper = mixed_precision(config.optim_wrapper, 'auto') if amp else config.optim_wrapper
            self.wrapper = build_optim_wrapper(self.model, wrapper)
        self.seconds: list[float] = []  # of a step, by round

    def round(self) -> None:
        """A training step on each batch."""
        self._wait()
        start = time.perf_counter()
        for batch in self.batches:
            self.model.train_step(batch, self.wrapper)
        self._wait()
        self.seconds.append((time.perf_counter() - start) / len(self.batches))

    def _wait(self) -> None:
        import torch

        if self.device != 'cpu':
            torch.cuda.synchronize()

    def multiply_adds(self) -> float:
        """Of one question's forward pass, the mean over the first batch; each by itself, so that nothing is shared."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from kovilt.models.sizes import build_model

        with torch.device('meta'):  # shapes without numbers
            model = build_model(self.model_config).eval()
        model.data_preprocessor.to('meta')
        counts: dict[tuple, int] = {}
        shapes = []
        for part in self.batches[0]:
            lengths = part['text_mask'].sum(1).tolist()
            grids = part['grids'][part['image_index']].tolist()
            shapes += [(length, *grid, part['patches'].shape[1]) for length, grid in zip(lengths, grids, strict=True)]
        for length, rows, columns, width in set(shapes):
            question = {
                'patches': torch.zeros(rows * columns, width, dtype=torch.uint8, device='meta'),
                'grids': torch.tensor([[rows, columns]]),
                'image_index': torch.zeros(1, dtype=torch.int64),
                'input_ids': torch.ones(1, length, dtype=torch.int64),
                'text_mask': torch.ones(1, length, dtype=torch.bool),
            }
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.scores(model.data_preprocessor(question))
            counts[length, rows, columns, width] = counter.get_total_flops() // 2
        return statistics.mean(counts[shape] for shape in shapes)

    def result(self) -> dict:
        """All of it, with the time of an epoch of its data, in which nothing is evaluated or read."""
        step = statistics.median(self.seconds)
        texts = sum(len(part['input_ids']) for batch in self.batches for part in batch) / len(self.batches)
        return {
            'parameters': sum(parameter.numel() for parameter in self.model.parameters()),
            'multiply_adds': self.multiply_adds(),
            'seconds_per_step': step,
            'rounds': self.seconds,
            'questions_per_step': texts,
            'questions_per_second': texts / step,
            'rows': self.rows,
            'epoch_seconds': self.steps * step,
        }


def main(args: argparse.Namespace) -> None:
    import platform

    import torch

    from kovilt.engine.config import load_config
    from kovilt.evaluation.table import format_table

    if args.batches < 1 or args.rounds < 1:
        raise KoviltError('--batches and --rounds must be at least 1')
    models = {}
    for name, config, *options in args.model:
        models[name] = Measured(load_config(config, options), batches=args.batches, amp=args.amp)
    for number in range(args.rounds + 1):
        print(f'round {number}/{args.rounds}', flush=True)
        for model in models.values():
            model.round()
    for model in models.values():
        del model.seconds[0]  # memory is reserved and kernels are chosen
    found = {name: model.result() for name, model in models.items()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{platform.machine()} CPU'
    rows = [
        [
            name,
            f'{one["parameters"]:,}',
            f'{one["multiply_adds"] / 1e9:.3f}',
            f'{1e3 * one["seconds_per_step"]:.1f}',
            f'{one["questions_per_second"]:,.0f}',
            f'{one["epoch_seconds"]:,.1f}',
        ]
        for name, one in found.items()
    ]
    head = ['model', 'parameters', '10^9 multiply-adds', 'ms a step', 'questions/s', 'seconds an epoch']
    print(f'{device}, {torch.get_num_threads()} threads\n{format_table(head, rows)}')
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        report = {'device': device, 'threads': torch.get_num_threads(), 'amp': args.amp, 'models': found}
        args.out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
