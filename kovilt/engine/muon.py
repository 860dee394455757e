"""Muon for the transformer's matrices, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest
matrix whose directions all have the same strength. A small ViLT trained from nothing begins to look in fewer steps
than with AdamW (docs/benchmarks.md). Updates are scaled to AdamW's size (Liu et al. 2025, arXiv 2502.16982, eq. 4), so
one learning rate and one schedule serve both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from kovilt.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class MuonAdamW(Optimizer):
    """AdamW, but groups with `matrices` = n > 0 take Muon's step: each weight is n matrices stacked along its rows.

    `ViLTOptimWrapperConstructor` makes such groups of the weights of the encoder's blocks: 3 for `qkv`, which stacks
    queries, keys and values, 1 for the others. Unlike torch.optim.Muon it works on equal shapes at once, and in float32
    where bfloat16 is slow.

    Args:
        params: parameter groups.
        lr: learning rate.
        betas, eps: AdamW's.
        weight_decay: decoupled, as in AdamW.
        momentum: Muon's, of Nesterov's kind.
        precision: what Muon's matrix products are computed in; `--amp` sets it.
    """

    def __init__(
        self,
        params: Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        precision: Literal['float32', 'bfloat16'] = 'float32',
    ) -> None:
        if precision not in ('float32', 'bfloat16'):
            raise ValueError(f"precision {precision!r} is neither 'float32' nor 'bfloat16'")
        self.product_dtype = getattr(torch, precision)
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum=momentum, matrices=0)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group['params'] if parameter.grad is not None]
            if group['matrices']:
                self._muon(group, parameters)
            else:
                self._adamw(group, parameters)
        return loss

    def _muon(self, group: dict, parameters: list[Tensor]) -> None:
        same_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            same_shape[parameter.shape].append(parameter)
        for alike in same_shape.values():
            updates = []
            for parameter in alike:
                state = self.state[parameter]
                if not state:
                    state['momentum'] = torch.zeros_like(parameter)
                momentum = state['momentum']
                momentum.lerp_(parameter.grad, 1 - group['momentum'])
                updates.append(parameter.grad.lerp(momentum, group['momentum']).unflatten(0, (group['matrices'], -1)))
            updates = torch.cat(updates).to(self.product_dtype)  # (n * matrices, rows, columns)
            updates = orthogonalized(updates).to(alike[0].dtype)
            scale = 0.2 * max(updates.shape[1:]) ** 0.5  # entries of about 0.2, as AdamW's
            for parameter, update in zip(alike, updates.split(group['matrices']), strict=True):
                parameter.mul_(1 - group['lr'] * group['weight_decay'])
                parameter.add_(update.flatten(0, 1), alpha=-group['lr'] * scale)

    def _adamw(self, group: dict, parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = dict(
                    step=torch.zeros((), device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state['exp_avg'] for state in states],
            [state['exp_avg_sq'] for state in states],
            [],
            [state['step'] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group['betas'][0],
            beta2=group['betas'][1],
            lr=group['lr'],
            weight_decay=group['weight_decay'],
            eps=group['eps'],
        )


def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with all singular values brought near 1 (0.7 to 1.2).

    Five steps of a quintic Newton-Schulz iteration with Jordan's coefficients.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315) @ x
    return x if wide else x.mT
