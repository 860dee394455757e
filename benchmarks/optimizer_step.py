"""One optimizer step of MuonAdamW, of torch.optim.Muon with AdamW for the rest, and of AdamW alone, in turn.

    python -m benchmarks.optimizer_step configs/rooms/vqa.py

Median milliseconds, of processor time on a CPU. Gradients are random; forward and backward pass are not part of the
times. torch's Muon takes one matrix after the other, always in bfloat16, and the stacked queries, keys and values as
one matrix.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.fixtures import FIRST_TOKEN
from benchmarks.report import markdown_table
from benchmarks.timing import device_clock, prepare_device, ratio, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

OURS = 'MuonAdamW, float32'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('config', help='a training config; its model is built with 1,000 tokens and 30 answers')
    parser.add_argument('--device', default='cpu', help='cpu or cuda (cpu)')
    parser.add_argument('--rounds', type=at_least(1), default=20, metavar='N', help='steps of each optimizer (20)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config
    from kovilt.engine.muon import MuonAdamW
    from kovilt.engine.optim import ViLTOptimWrapperConstructor
    from kovilt.models.sizes import build_model, complete_model_config

    machine = prepare_device(args.device)
    sizes = {'vocab_size': 1000, 'mask_token_id': 4, 'special_token_ids': list(range(FIRST_TOKEN))}
    sizes |= {'num_answers': 30}
    model_cfg = complete_model_config(load_config(args.config).model, data_sizes=sizes)

    def groups(optimizer: str) -> list[dict[str, Any]]:
        """The parameter groups of a model of its own, with random gradients."""
        torch.manual_seed(0)
        model = build_model(model_cfg).to(args.device)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        wrapper = dict(optimizer=dict(type=optimizer, lr=1e-3, weight_decay=0.05))
        return ViLTOptimWrapperConstructor(wrapper).groups(model)

    ours = {precision: MuonAdamW(groups('MuonAdamW'), precision=precision) for precision in ('float32', 'bfloat16')}
    split = groups('MuonAdamW')
    matrices = [parameter for group in split if group.get('matrices') for parameter in group['params']]
    torchs: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.05, adjust_lr_fn='match_rms_adamw'),
        torch.optim.AdamW([group for group in split if not group.get('matrices')], fused=True),
    )
    adamw = torch.optim.AdamW(groups('AdamW'), fused=True)
    variants: dict[str, Callable[[], Any]] = {
        OURS: ours['float32'].step,
        'MuonAdamW, bfloat16': ours['bfloat16'].step,
        'torch.optim.Muon, bfloat16, and AdamW': lambda: [optimizer.step() for optimizer in torchs],
        'AdamW': adamw.step,
    }
    seconds = time_in_turn(variants, rounds=args.rounds, clock=device_clock(args.device), warm_ups=3)
    print(f'{machine}; {args.config}: {len(matrices)} matrices, {sum(m.numel() for m in matrices):,} numbers\n')
    rows = [
        [name, f'{1e3 * statistics.median(times):.1f}', f'{ratio(times, seconds[OURS]):.2f}']
        for name, times in seconds.items()
    ]
    print(markdown_table(['', 'ms a step', f'time over {OURS}'], rows))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
