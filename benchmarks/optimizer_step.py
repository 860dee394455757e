"""One step of MuonAdamW, of torch.optim.Muon with AdamW for the rest, and of AdamW alone, in turn: median milliseconds.

    python benchmarks/optimizer_step.py configs/rooms/vqa.py

torch's Muon takes one matrix after the other, always in bfloat16, and the stacked queries, keys and values as one.
Gradients are random; the forward and backward pass are not part of the times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import prepare_device, ratio, time_in_turn  # noqa: E402
from kovilt.errors import run_cli  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a training config; its model is built with 1,000 tokens and 30 answers')
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--rounds', type=int, default=20, metavar='N', help='steps of each optimizer (20)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config
    from kovilt.engine.muon import MuonAdamW
    from kovilt.engine.optim import ViLTOptimWrapperConstructor
    from kovilt.models.sizes import build_model, complete_model_config

    heading, _ = prepare_device(args.device)
    sizes = {'vocab_size': 1000, 'mask_token_id': 4, 'special_token_ids': list(range(5)), 'num_answers': 30}
    model_cfg = complete_model_config(load_config(args.config).model, data_sizes=sizes)

    def groups(optimizer: str) -> list[dict]:
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
    torchs = (
        torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.05, adjust_lr_fn='match_rms_adamw'),
        torch.optim.AdamW([group for group in split if not group.get('matrices')], fused=True),
    )
    adamw = torch.optim.AdamW(groups('AdamW'), fused=True)
    ways = {
        'MuonAdamW, float32': ours['float32'].step,
        'MuonAdamW, bfloat16': ours['bfloat16'].step,
        'torch.optim.Muon, bfloat16, and AdamW': lambda: [optimizer.step() for optimizer in torchs],
        'AdamW': adamw.step,
    }
    taken = time_in_turn(ways, rounds=args.rounds, device=args.device, warm_ups=3)
    print(f'{heading}; {args.config}: {len(matrices)} matrices, {sum(m.numel() for m in matrices):,} numbers\n')
    print('| | ms a step | times MuonAdamW, float32 |\n|---|---:|---:|')
    for name, seconds in taken.items():
        median, factor = statistics.median(seconds), ratio(seconds, taken['MuonAdamW, float32'])
        print(f'| {name} | {1e3 * median:.1f} | {factor:.2f} |')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
