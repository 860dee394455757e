"""Transport plans of the published loop, of kovilt and of the exact solver: error and time, in turn on the same pairs.

    python benchmarks/transport.py

Pairs have 144 to 240 patches and 5 to 20 words, padded to 40 for the published loop as there. `isotropic` states point
anywhere; `anisotropic` ones share a direction, as the states of deep layers do. The error is that of the distance
against POT's exact one, median and largest over the pairs, in percent. The last line is the whole alignment objective,
forward and backward: to be held against a training step (benchmarks/training_step.py).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

WORDS, PATCHES, PADDED = (5, 20), (144, 240), 40
DIRECTIONS = {'isotropic': 0.0, 'anisotropic': 2.3}  # length of the shared part of a state over that of its own


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=64, metavar='N', help='pairs of a batch (64)')
    parser.add_argument('--width', type=int, default=768, metavar='N', help='hidden size (768)')
    parser.add_argument('--rounds', type=int, default=20, metavar='N', help='how often each is timed (20)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def random_states(pairs: int, width: int, direction: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Words (B, L, D), their mask (B, L), patches (B, P, D), their mask (B, P)."""
    import torch

    chance = torch.Generator().manual_seed(0)
    shared = torch.randn(pairs, 1, width, generator=chance) * direction
    states = []
    for least, most in (WORDS, PATCHES):
        lengths = torch.randint(least, most + 1, (pairs, 1), generator=chance)
        states += [torch.randn(pairs, most, width, generator=chance) + shared, torch.arange(most) < lengths]
    return tuple(states)


def published_ipot(cost: Tensor, word_mask: Tensor, patch_mask: Tensor, *, beta: float, iterations: int) -> Tensor:
    """The loop of UNITER and ViLT, step by step, with one inner iteration (more crash there); plans (B, L, P)."""
    pairs, words, patches = cost.shape
    outside = ~(word_mask[:, :, None] & patch_mask[:, None, :]).transpose(1, 2)  # (B, P, L)
    word_count = word_mask.sum(dim=1).to(cost.dtype)[:, None, None]
    patch_count = patch_mask.sum(dim=1).to(cost.dtype)[:, None, None]
    word_pad, patch_pad = (~word_mask * 1e4)[:, None], (~patch_mask * 1e4)[:, None]
    sigma = (1 / word_count.squeeze(2)).expand(pairs, words).masked_fill(~word_mask, 0)
    plan = cost.new_ones(pairs, patches, words).masked_fill(outside, 0)
    kernel = (-cost.transpose(1, 2) / beta).exp().masked_fill(outside, 0)
    for _ in range(iterations):
        q = kernel * plan
        delta = 1 / (patch_count * q.matmul(sigma.view(pairs, words, 1)).view(pairs, 1, patches) + patch_pad)
        sigma = 1 / (word_count * delta.matmul(q) + word_pad)
        plan = delta.view(pairs, patches, 1) * q * sigma
    return plan.masked_fill(outside, 0).transpose(1, 2)


def exact_plans(cost: Tensor, word_mask: Tensor, patch_mask: Tensor) -> Tensor:
    """By POT's network simplex, pair by pair; (B, L, P)."""
    import numpy as np
    import ot
    import torch

    plans = np.zeros(cost.shape, np.float32)
    for i, (words, patches) in enumerate(zip(word_mask.sum(1).tolist(), patch_mask.sum(1).tolist(), strict=True)):
        masses = [np.full(n, 1 / n) for n in (words, patches)]
        plans[i, :words, :patches] = ot.emd(*masses, cost[i, :words, :patches].double().numpy())
    return torch.from_numpy(plans)


def padded(cost: Tensor, word_mask: Tensor) -> tuple[Tensor, Tensor]:
    """As published training has them: every batch is padded to the longest text that there may be."""
    from torch.nn import functional as F

    more = PADDED - cost.shape[1]
    return F.pad(cost, (0, 0, 0, more)), F.pad(word_mask, (0, more))


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.modules import WPAHead
    from kovilt.modules.transport import ipot, transport_cost, transport_distance

    if min(args.pairs, args.width, args.rounds) < 1:
        raise KoviltError('--pairs, --width and --rounds must be at least 1')
    head = WPAHead()
    paper, ours = dict(beta=0.5, iterations=50), dict(beta=head.beta, iterations=head.iterations)
    print(f'{args.pairs} pairs, width {args.width}, {torch.get_num_threads()} threads')
    defaults = '{beta}, {iterations}'.format(**ours)
    for name, direction in DIRECTIONS.items():
        words, word_mask, patches, patch_mask = random_states(args.pairs, args.width, direction)
        cost = transport_cost(words, patches)
        long_cost, long_mask = padded(cost, word_mask)
        runs = {
            'published': lambda c=long_cost, w=long_mask, p=patch_mask: published_ipot(c, w, p, **paper),
            "kovilt, the paper's": lambda c=cost, w=word_mask, p=patch_mask: ipot(c, w, p, **paper),
            'kovilt, default': lambda c=cost, w=word_mask, p=patch_mask: ipot(c, w, p, **ours),
            'exact (ot.emd)': lambda c=cost, w=word_mask, p=patch_mask: exact_plans(c, w, p),
        }
        plans = {kind: run()[:, : cost.shape[1]] for kind, run in runs.items()}  # also warms up
        seconds = {kind: [] for kind in runs}
        for _ in range(args.rounds):
            for kind, run in runs.items():
                seconds[kind].append(_seconds(run))
        truth = transport_distance(cost, plans['exact (ot.emd)'])
        first = statistics.median(seconds['published'])
        print(f'\n{name}: exact distance {truth.mean():.3f}, mean cost {_mean_cost(cost, word_mask, patch_mask):.3f}')
        print('| plan | beta, iterations | median error | largest | patch mass off by | ms | ratio |')
        print('|---|---|---|---|---|---|---|')
        for kind, plan in plans.items():
            error = (transport_distance(cost, plan) / truth - 1).abs() * 100
            wrong = (plan.sum(dim=1) - patch_mask / patch_mask.sum(dim=1, keepdim=True)).abs().max()
            how = {'exact (ot.emd)': '', 'kovilt, default': defaults}.get(kind, '0.5, 50')
            middle = statistics.median(seconds[kind])
            print(
                f'| {kind} | {how} | {error.median():.2f} % | {error.max():.2f} % | {wrong:.0e} | '
                f'{middle * 1e3:.1f} | {first / middle:.2f} |'
            )
    words, patches = words.requires_grad_(), patches.requires_grad_()
    matched = torch.arange(args.pairs) % 2 == 0
    whole = [
        _seconds(lambda: head.loss(words, word_mask, patches, patch_mask, matched)['wpa_loss'].backward())
        for _ in range(args.rounds)
    ]
    print(f'\nthe whole objective, forward and backward: {statistics.median(whole) * 1e3:.0f} ms')


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _mean_cost(cost: Tensor, word_mask: Tensor, patch_mask: Tensor) -> float:
    mask = word_mask[:, :, None] & patch_mask[:, None]
    return float(cost[mask].mean())


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
