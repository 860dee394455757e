"""Transport plans of the published loop, of kovilt and of an exact solver: their errors and their times.

    python -m benchmarks.transport

Pairs have 144 to 240 patches and 5 to 20 tokens, padded to 40 tokens for the published loop, as there. The directions
of `isotropic` states are independent; `anisotropic` states share a direction, as the states of deep layers do. The
error of a distance is relative to POT's exact one, in percent: median and largest over the pairs. Times are wall times
of a batch, in turn on the same pairs; a ratio above 1 means faster than the published loop. The last line is the whole
alignment objective, forward and backward, to be compared with a training step (benchmarks/training_step.py).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import markdown_table
from benchmarks.timing import describe_machine, ratio, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

if TYPE_CHECKING:
    from torch import Tensor


class Iterations(NamedTuple):
    """The numbers of IPOT."""

    beta: float
    iterations: int


TOKENS, PATCHES = (5, 20), (144, 240)  # of a pair, least and most
PADDED_TOKENS = 40  # of every text in published training
DIRECTIONS = {'isotropic': 0.0, 'anisotropic': 2.3}  # length of the shared part of a state over that of its own part
PAPER = Iterations(0.5, 50)
SMALL_BETA = Iterations(0.05, 30)
PUBLISHED, EXACT = 'published', 'exact (ot.emd)'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--pairs', type=at_least(1), default=64, metavar='N', help='pairs of a batch (64)')
    parser.add_argument('--width', type=at_least(1), default=768, metavar='N', help='hidden size (768)')
    parser.add_argument('--rounds', type=at_least(1), default=20, metavar='N', help='timings of each plan (20)')
    return parser.parse_args(argv)


def random_states(pairs: int, width: int, direction: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States of tokens (B, L, D), their mask (B, L), states of patches (B, P, D), their mask (B, P).

    `direction` is the length of the part that all states of a pair share, over that of a state's own part.
    """
    import torch

    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(pairs, 1, width, generator=rng) * direction

    def states(least: int, most: int) -> tuple[Tensor, Tensor]:
        lengths = torch.randint(least, most + 1, (pairs, 1), generator=rng)
        return torch.randn(pairs, most, width, generator=rng) + shared, torch.arange(most) < lengths

    return *states(*TOKENS), *states(*PATCHES)


def published_ipot(cost: Tensor, token_mask: Tensor, patch_mask: Tensor, *, beta: float, iterations: int) -> Tensor:
    """The loop of UNITER and ViLT with one inner iteration (with more it crashes there); plans (B, L, P)."""
    pairs, tokens, patches = cost.shape
    outside = ~(token_mask[:, :, None] & patch_mask[:, None, :]).transpose(1, 2)  # (B, P, L)
    token_count = token_mask.sum(dim=1).to(cost.dtype)[:, None, None]
    patch_count = patch_mask.sum(dim=1).to(cost.dtype)[:, None, None]
    token_pad, patch_pad = (~token_mask * 1e4)[:, None], (~patch_mask * 1e4)[:, None]
    sigma = (1 / token_count.squeeze(2)).expand(pairs, tokens).masked_fill(~token_mask, 0)
    plan = cost.new_ones(pairs, patches, tokens).masked_fill(outside, 0)
    kernel = (-cost.transpose(1, 2) / beta).exp().masked_fill(outside, 0)
    for _ in range(iterations):
        q = kernel * plan
        delta = 1 / (patch_count * q.matmul(sigma.view(pairs, tokens, 1)).view(pairs, 1, patches) + patch_pad)
        sigma = 1 / (token_count * delta.matmul(q) + token_pad)
        plan = delta.view(pairs, patches, 1) * q * sigma
    return plan.masked_fill(outside, 0).transpose(1, 2)


def exact_plans(cost: Tensor, token_mask: Tensor, patch_mask: Tensor) -> Tensor:
    """Plans (B, L, P) by POT's network simplex, pair by pair."""
    import numpy as np
    import ot
    import torch

    plans = np.zeros(cost.shape, np.float32)
    for i, (tokens, patches) in enumerate(zip(token_mask.sum(1).tolist(), patch_mask.sum(1).tolist(), strict=True)):
        masses = [np.full(n, 1 / n) for n in (tokens, patches)]
        plans[i, :tokens, :patches] = ot.emd(*masses, cost[i, :tokens, :patches].double().numpy())
    return torch.from_numpy(plans)


def pad_texts(cost: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Costs (B, L, P) and mask (B, L) padded to PADDED_TOKENS, as in published training."""
    from torch.nn import functional as F

    more = PADDED_TOKENS - cost.shape[1]
    return F.pad(cost, (0, 0, 0, more)), F.pad(token_mask, (0, more))


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.modules import WPAHead

    head = WPAHead(loss_weight=0.5, mismatched='ignore', **SMALL_BETA._asdict())
    print(f'{describe_machine("cpu")}; {args.pairs} pairs, width {args.width}')
    for name, direction in DIRECTIONS.items():
        states = random_states(args.pairs, args.width, direction)
        compare_plans(name, states, SMALL_BETA, args.rounds)
    tokens, token_mask, patches, patch_mask = states
    tokens.requires_grad_()
    patches.requires_grad_()
    matched = torch.arange(args.pairs) % 2 == 0

    def objective() -> None:
        head.loss(tokens, token_mask, patches, patch_mask, matched)['wpa_loss'].backward()

    seconds = time_in_turn({'objective': objective}, rounds=args.rounds, clock=wall_clock)['objective']
    print(f'\nthe whole objective, forward and backward: {statistics.median(seconds) * 1e3:.0f} ms')


def compare_plans(name: str, states: tuple[Tensor, ...], small_beta: Iterations, rounds: int) -> None:
    """Print a row for each way to a plan; `small_beta` those of fewer iterations."""
    from kovilt.modules.transport import ipot, transport_cost, transport_distance

    tokens, token_mask, patches, patch_mask = states
    cost = transport_cost(tokens, patches)
    long_cost, long_mask = pad_texts(cost, token_mask)
    variants: dict[str, Callable[[], Tensor]] = {
        PUBLISHED: lambda: published_ipot(long_cost, long_mask, patch_mask, **PAPER._asdict()),
        "kovilt, the paper's": lambda: ipot(cost, token_mask, patch_mask, **PAPER._asdict()),
        'kovilt, small beta': lambda: ipot(cost, token_mask, patch_mask, **small_beta._asdict()),
        EXACT: lambda: exact_plans(cost, token_mask, patch_mask),
    }
    plans = {plan_name: run()[:, : cost.shape[1]] for plan_name, run in variants.items()}
    seconds = time_in_turn(variants, rounds=rounds, clock=wall_clock)
    exact = transport_distance(cost, plans[EXACT])
    mean_cost = cost[token_mask[:, :, None] & patch_mask[:, None]].mean()
    print(f'\n{name}: exact distance {exact.mean():.3f}, mean cost {mean_cost:.3f}\n')
    rows = []
    for plan_name, plan in plans.items():
        error = (transport_distance(cost, plan) / exact - 1).abs() * 100
        wrong = (plan.sum(dim=1) - patch_mask / patch_mask.sum(dim=1, keepdim=True)).abs().max()
        numbers = {EXACT: (), 'kovilt, small beta': small_beta}.get(plan_name, PAPER)
        times = seconds[plan_name]
        rows.append(
            [
                plan_name,
                ', '.join(map(str, numbers)),
                f'{error.median():.2f} %',
                f'{error.max():.2f} %',
                f'{wrong:.0e}',
                f'{statistics.median(times) * 1e3:.1f}',
                f'{ratio(seconds[PUBLISHED], times):.2f}',
            ]
        )
    head = ['plan', 'beta, iterations', 'median error', 'largest error', 'error of patch mass', 'ms', 'ratio']
    print(markdown_table(head, rows))


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
